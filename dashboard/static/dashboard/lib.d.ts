/** The types of the vendored libraries, as far as the pages use them. Only `make lint` reads this file. */

export interface Signal<T> {
  value: T;
  peek(): T;
}
export interface ReadonlySignal<T> {
  readonly value: T;
  peek(): T;
}

/** A piece of a page. */
export interface Template {
  readonly strings: TemplateStringsArray;
  readonly values: unknown[];
}

export function html(strings: TemplateStringsArray, ...values: unknown[]): Template;
export function svg(strings: TemplateStringsArray, ...values: unknown[]): Template;
export const nothing: unique symbol;
export function render(view: unknown, element: HTMLElement): unknown;
export function repeat<T>(items: Iterable<T>, key: (item: T, index: number) => unknown, view: (item: T, index: number) => unknown): unknown;

export function signal<T>(value: T): Signal<T>;
export function computed<T>(compute: () => T): ReadonlySignal<T>;
export function effect(run: () => void | (() => void)): () => void;
export function batch<T>(run: () => T): T;
export function untracked<T>(run: () => T): T;
