/** The types of uPlot, as far as the charts use them. Only `make lint` reads this file. */

export default class UPlot {
  constructor(options: object, data: readonly (readonly (number | null)[])[], host: HTMLElement);
  readonly width: number;
  readonly cursor: { readonly left: number; readonly idx: number | null };
  setData(data: readonly (readonly (number | null)[])[]): void;
  setSize(size: { width: number; height: number }): void;
  redraw(rebuildPaths?: boolean, recalcAxes?: boolean): void;
  destroy(): void;
}
