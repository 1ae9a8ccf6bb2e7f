/** The pages import the client from where the server serves it: its types are these. */
export * from "../../../../../../../clients/javascript/mahavishnu.js";
