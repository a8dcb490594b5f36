"""Two drawings as SVG text, for any browser: curves, and a matrix of counts."""

from html import escape

from picogpt.tools.files import write_text

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 640, 400, 70, 40, 50
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe & Ito: for colour-blind eyes too


def text(x, y, words, anchor="middle", size=13, fill="#222"):
    """One line of text at a place."""
    style = f'text-anchor="{anchor}" font-size="{size}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(str(words))}</text>'


def write_svg(path, title, parts, width=WIDTH, height=HEIGHT):
    """Put the parts into one picture on white, under its title."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text(width / 2, 24, title, size=15),
        *parts,
        "</svg>\n",
    ]
    write_text(path, "\n".join(lines))


def line_chart(path, series, title, x_label, y_label):
    """Draw `series`, {name: [(x, y), ...]}, one curve each; nothing is drawn without a point."""
    points = [point for curve in series.values() for point in curve]
    if not points:
        return
    (x0, x1), (y0, y1) = ((min(values), max(values)) for values in zip(*points))
    width, height = WIDTH - LEFT - 20, HEIGHT - TOP - BOTTOM

    def place(x, y):
        return (
            LEFT + width * (x - x0) / ((x1 - x0) or 1),
            TOP + height * (1 - (y - y0) / ((y1 - y0) or 1)),
        )

    parts = [text(LEFT + width / 2, HEIGHT - 10, x_label), text(LEFT, TOP - 8, y_label)]
    for i in range(5):
        x, y = x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4
        px, py = place(x, y)
        parts.append(f'<path d="M{LEFT} {py:.1f}H{LEFT + width}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, py + 4, f"{y:.4g}", "end"))
        parts.append(text(px, HEIGHT - 30, f"{x:,.4g}" if x % 1 else f"{x:,.0f}"))
    for i, (name, curve) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in curve)
        dash = ' stroke-dasharray="6 3"' if i % 2 else ""  # told apart without colours as well
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}"{dash}/>')
        parts.append(text(WIDTH - 24, TOP + 18 * (i + 1), name, "end", fill=colour))
    write_svg(path, title, parts)


def matrix_chart(path, counts, labels, title):
    """Draw a confusion matrix: counts `[n, n]`, rows the truth, columns what was predicted."""
    cell, left, top = 64, 110, 80
    most = max(max(row) for row in counts) or 1
    parts = []
    for i, row in enumerate(counts):
        parts.append(text(left - 8, top + cell * (i + 0.55), labels[i], "end"))
        parts.append(text(left + cell * (i + 0.5), top - 8, labels[i]))
        for j, n in enumerate(row):
            share = n / most
            square = f'x="{left + cell * j}" y="{top + cell * i}" width="{cell}" height="{cell}"'
            parts.append(
                f'<rect {square} fill="#0072b2" fill-opacity="{share:.2f}" stroke="#999"/>'
            )
            colour = "#fff" if share > 0.6 else "#222"
            parts.append(text(left + cell * (j + 0.5), top + cell * (i + 0.55), n, fill=colour))
    size = cell * len(labels)
    parts.append(text(left + size / 2, top + size + 24, "columns: predicted; rows: true"))
    width = max(left + size + 20, 9 * len(title))
    write_svg(path, title, parts, width, top + size + 40)
