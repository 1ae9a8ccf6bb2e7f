// The library of the charts. Only a page of a pool imports it, when it is opened.

export { default } from "./vendor/uplot/uplot.js";
