// Drawing: what a view reads is followed, and however much of it changes, it is drawn once per frame.

import { effect, render } from "./lib.js";

/** The elements that were drawn into. @type {WeakSet<HTMLElement>} */
const drawn = new WeakSet();

/**
 * Draw a view into an element, now and in the frame after each change of a signal that it reads. A hidden tab has no
 * frames, so nothing is drawn in it until it is shown.
 *
 * @param {HTMLElement} element
 * @param {() => unknown} view
 * @returns {() => void} Stops it.
 */
export function draw(element, view) {
  let frame = 0;
  let stop = () => {};
  const drawNow = () => {
    frame = 0;
    stop();
    let isFirst = true;
    // The first change ends the effect, so that a thousand further ones cost nothing until the frame.
    stop = effect(() => {
      if (!isFirst) {
        frame ||= requestAnimationFrame(drawNow);
        return;
      }
      isFirst = false;
      render(view(), element);
    });
  };
  // What the server wrote. What was drawn before is lit's: it keeps its place in the element.
  if (!drawn.has(element)) element.replaceChildren();
  drawn.add(element);
  drawNow();
  return () => {
    cancelAnimationFrame(frame);
    stop();
    render(null, element);
  };
}
