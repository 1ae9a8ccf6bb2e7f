// What the server sends to a page: `dashboard/page_settings.py` writes it.

/**
 * @typedef {object} PageSettings
 * @property {string} root The path of the overview.
 * @property {string} api The path of the HTTP API.
 * @property {string} admin The path of the admin; empty for a user who may not enter it.
 * @property {string} login The path of the login.
 * @property {string} docs The path of the documentation.
 * @property {string} websocket_host Where the WebSocket is; empty if it is where the page is.
 * @property {string} csrf_token What changing requests send; empty if the server has no logins.
 * @property {string} user The name of the user; empty without a login.
 * @property {boolean} reads_everything Whether the user may read the events of everything.
 * @property {number} cancel_grace_seconds The time that a cancelled stage has to end.
 * @property {string[]} operates The kinds of resources of which the user may operate all.
 */

/** @type {PageSettings} */
export const settings = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("page-settings")).textContent);
