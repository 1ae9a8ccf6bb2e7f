import { html } from "../lib.js";

export const open = () => ({ title: () => "overview", view: () => html`<h1>overview</h1>` });
