"""Two drawings as SVG text, for any browser: curves, and a matrix of counts."""

import math
from html import escape

from picogpt.tools.files import write_text

PLOT_WIDTH, PLOT_HEIGHT = 550, 310  # of the field that curves stand in
TOP, BOTTOM = 50, 50  # above and below it
MARGIN = 20  # to the edge of the picture
CELL = 64  # at least, of a matrix
SIZE, TITLE_SIZE = 13, 15  # of letters, in pixels
LINE = 16  # from one line of text to the next
N_DOTTED = 20  # a curve of so many points or fewer shows each
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe & Ito: for colour-blind eyes too


def line_chart(path, series, title, x_label, y_label):
    """Draw `series`, {name: [(x, y), ...]}, one curve each, to an SVG file.

    Without any point nothing is written. Raises OutputError where the file can't be written.
    """
    points = [point for curve in series.values() for point in curve]
    if not points:
        return
    xs, ys = zip(*points)
    x_ticks = ticks(xs, all(x == int(x) for x in xs))
    y_ticks = ticks(ys)
    y_labels = [number(y, y_ticks) for y in y_ticks]
    left = MARGIN + max(map(text_width, y_labels)) + 8
    right = left + PLOT_WIDTH

    def place(x, y):
        """Pixels of a point; y axes run from the lowest tick to the highest, x axes as data do."""
        (x0, x1), (y0, y1) = (min(xs), max(xs)), (y_ticks[0], y_ticks[-1])
        across = (x - x0) / (x1 - x0) if x1 > x0 else 0.5
        up = (y - y0) / (y1 - y0)
        return left + PLOT_WIDTH * across, TOP + PLOT_HEIGHT * (1 - up)

    bottom = TOP + PLOT_HEIGHT
    parts = [text(MARGIN, TOP - 14, y_label, "start")]
    parts.append(text(left + PLOT_WIDTH / 2, bottom + 40, x_label))
    for y, label in zip(y_ticks, y_labels):
        _, py = place(min(xs), y)
        parts.append(f'<path d="M{left:.1f} {py:.1f}H{right:.1f}" stroke="#ddd"/>')
        parts.append(text(left - 8, py + 4, label, "end"))
    for x in x_ticks:
        if min(xs) <= x <= max(xs):
            px, _ = place(x, y_ticks[0])
            parts.append(f'<path d="M{px:.1f} {bottom}v5" stroke="#222"/>')
            parts.append(text(px, bottom + 20, number(x, x_ticks)))
    for i, (name, curve) in enumerate(series.items()):
        parts += draw_curve([place(*point) for point in curve], i)
        parts += legend_entry(right + MARGIN, TOP + 10 + LINE * 1.5 * i, name, i)
    width = right + MARGIN + 36 + max(map(text_width, series)) + MARGIN
    write_svg(path, title, parts, width, bottom + BOTTOM)


def draw_curve(places, i):
    """The i-th curve through places in pixels, with a dot at each where they are few."""
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    parts = [f'<polyline points="{line}" {curve_style(i)}/>']
    if len(places) <= N_DOTTED:
        fill = COLOURS[i % len(COLOURS)]
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{fill}"/>' for x, y in places]
    return parts


def legend_entry(x, y, name, i):
    """The i-th curve's name, beside a short part of its line."""
    line = f'<path d="M{x:.1f} {y - 4:.1f}h28" {curve_style(i)}/>'
    return [line, text(x + 36, y, name, "start", fill=COLOURS[i % len(COLOURS)])]


def curve_style(i):
    """Colour and dashes of the i-th curve: told apart without colours as well."""
    dash = ' stroke-dasharray="6 3"' if i % 2 else ""
    return f'fill="none" stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="1.5"{dash}'


def ticks(values, whole=False, n=5):
    """About n round numbers, 1, 2 or 5 times a power of ten apart, that enclose all values."""
    low, high = min(values), max(values)
    if low == high:
        low, high = (low - 1, high + 1) if low == 0 or whole else (low - abs(low), low + abs(low))
    raw = (high - low) / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * min(m for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    if whole:
        step = max(1, round(step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def number(x, ticks):
    """A tick's number, with as many decimals as the ticks' distance asks for."""
    step = ticks[1] - ticks[0]
    if step >= 1:
        return f"{x:,.0f}"
    n_decimals = math.ceil(-math.log10(step) - 1e-9)
    return f"{x:.{n_decimals}f}" if n_decimals < 7 else f"{x:.3g}"


def matrix_chart(path, counts, labels, title):
    """Draw a confusion matrix to an SVG file: the more often a pair came, the bluer its cell.

    `counts` `[n_classes, n_classes]` has a row for each true class and a column for each predicted
    one; `labels` are the classes' names. Raises OutputError where the file can't be written.
    """
    columns = [label.split() for label in labels]  # a word a line: columns are narrow
    n_lines = max(map(len, columns))
    left = MARGIN + max(map(text_width, labels)) + 8
    title_width = text_width(title, TITLE_SIZE) + 2 * MARGIN
    cell = max(CELL, *(text_width(word) + 12 for words in columns for word in words))
    cell = max(cell, (title_width - left - MARGIN) / len(labels))
    top = TOP + LINE * (n_lines + 1)
    size = cell * len(labels)
    most = max(max(row) for row in counts) or 1
    parts = [text(left + size / 2, TOP, "predicted", fill="#666")]
    parts.append(text(left - 8, top - 8, "true", "end", fill="#666"))
    for i, (row, label) in enumerate(zip(counts, labels)):
        parts.append(text(left - 8, top + cell * (i + 0.5) + 4, label, "end"))
        for j, word in enumerate(columns[i]):
            y = top - 8 - LINE * (len(columns[i]) - 1 - j)
            parts.append(text(left + cell * (i + 0.5), y, word))
        for j, n in enumerate(row):
            parts += draw_cell(left + cell * j, top + cell * i, cell, n, n / most)
    write_svg(path, title, parts, left + size + MARGIN, top + size + MARGIN)


def draw_cell(x, y, size, n, share):
    """A square with a number in it, the bluer the larger its share of the largest."""
    square = f'x="{x:.1f}" y="{y:.1f}" width="{size:.1f}" height="{size:.1f}"'
    fill = f'fill="#0072b2" fill-opacity="{share:.2f}" stroke="#999"'
    colour = "#fff" if share > 0.8 else "#222"
    return [f"<rect {square} {fill}/>", text(x + size / 2, y + size / 2 + 4, n, fill=colour)]


def text(x, y, words, anchor="middle", size=SIZE, fill="#222"):
    """One line of text at a place."""
    style = f'text-anchor="{anchor}" font-size="{size}" fill="{fill}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(str(words))}</text>'


def text_width(words, size=SIZE):
    """About how many pixels a line of text takes: rather more than less, whatever the font."""
    return 0.62 * size * len(str(words))


def write_svg(path, title, parts, width, height):
    """Put the parts into one picture on white, under its title."""
    width, height = math.ceil(width), math.ceil(height)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text(width / 2, 24, title, size=TITLE_SIZE),
        *parts,
        "</svg>\n",
    ]
    write_text(path, "\n".join(lines))
