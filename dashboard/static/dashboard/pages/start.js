import { html } from "../lib.js";

export const open = () => ({ title: () => "start", view: () => html`<h1>start</h1>` });
