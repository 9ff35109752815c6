/** A table of one row in etcdctl's form. */

/** Ends with a newline. */
export function textTable(head: readonly string[], row: readonly string[]): string {
  const widths = head.map((title, column) => Math.max(title.length, (row[column] ?? "").length));
  const line = `+${widths.map((width) => "-".repeat(width + 2)).join("+")}+`;
  const cells = (texts: readonly string[]): string =>
    `|${widths.map((width, column) => ` ${(texts[column] ?? "").padEnd(width)} `).join("|")}|`;
  const titles = head.map((title) => title.toUpperCase());
  return `${[line, cells(titles), line, cells(row), line].join("\n")}\n`;
}
