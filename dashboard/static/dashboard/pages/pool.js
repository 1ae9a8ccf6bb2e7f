import { html } from "../lib.js";

export const open = () => ({ title: () => "pool", view: () => html`<h1>pool</h1>` });
