import { html } from "../lib.js";

export const open = () => ({ title: () => "pools", view: () => html`<h1>pools</h1>` });
