import { html } from "../lib.js";

export const open = () => ({ title: () => "events", view: () => html`<h1>events</h1>` });
