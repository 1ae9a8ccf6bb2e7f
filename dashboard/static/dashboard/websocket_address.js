// The address of the WebSocket of this server.

/**
 * @param {string} host Its host and port; empty if they are those of the page.
 * @param {string} root The path of the overview. A proxy may require its last slash.
 */
export function websocketAddress(host, root) {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  return `${scheme}://${host || location.host}${root === "/" ? "" : root}`;
}
