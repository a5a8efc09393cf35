"""
plot.py — one picture of a report: what mirroring costs, beside a proxy that does not mirror.

    work     ██████████ 1.00 ×  0.36          haproxy
    s/GB     ██████     0.56 ×  0.20          doppel without a shadow
             ├──┤                             least and most of all runs

A bar's length is the ratio to haproxy within the run that made the report; so one scale fits all.
"""
from xml.sax.saxutils import escape

from benchmark.report import figure

# (work, its reference, what the picture calls it); works that the report does not have are left out.
WORKS = [("up1", "haproxy", "Upload, 1 connection"),
         ("up16", "haproxy", "Upload, 16 connections"),
         ("down1", "haproxy", "Download, 1 connection"),
         ("rr1", "haproxy", "Requests, 1 connection"),
         ("rr64", "haproxy", "Requests, 64 connections"),
         ("rr1000", "haproxy", "Requests, 1000 connections"),
         ("conn", "haproxy", "Short connections"),
         ("tls-up1", "haproxy-tls", "TLS ended, upload"),
         ("tls-rr64", "haproxy-tls", "TLS ended, requests"),
         ("tls-conn", "haproxy-tls", "TLS ended, short connections"),
         ("idle", "haproxy", "Idle sessions")]
# (names in reports, in the legend, colour)
SERIES = [({"haproxy", "haproxy-tls"}, "haproxy, does not mirror", "#8a8f98"),
          ({"haproxy-fsplice"}, "haproxy, splicing forced, does not mirror", "#c3c7cd"),
          ({"doppel0", "doppel0-tls"}, "doppel without a shadow", "#5b9bd5"),
          ({"doppel1", "doppel1-tls"}, "doppel with one shadow", "#e07b39")]
TITLE = "What mirroring costs"
SUBTITLE = "CPU time of the proxy (last: user memory) for the same work, haproxy = 1; shorter is cheaper"

WIDTH, LEFT, RIGHT, TOP = 860, 250, 150, 112     # pixels
BAR, BETWEEN_BARS, BETWEEN_WORKS, CAPTION = 13, 3, 18, 32
FONT = 'font-family="system-ui, sans-serif"'


def text(x, y, words, size=12, anchor="start", colour="#222", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}" '
            f'font-weight="{weight}">{escape(words)}</text>')


def rectangle(x, y, width, height, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def line(x1, y1, x2, y2, colour):
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{colour}"/>'


def bars_of(work, reference):
    """[(candidate, its colour)] in the order of the legend; [] when there is nothing to compare with."""
    by_name = {one["name"]: one for one in work["candidates"] if one["median"]}
    if reference not in by_name:
        return []
    is_secure = reference.endswith("-tls")
    return [(by_name[name], colour) for names, _, colour in SERIES for name in sorted(names)
            if name in by_name and name.endswith("-tls") == is_secure]


def draw_work(title, work, bars, top, scale):
    """The parts of one work, and where the next one begins."""
    base = bars[0][0]["median"]
    below = top + max(len(bars) * (BAR + BETWEEN_BARS), CAPTION) + BETWEEN_WORKS
    parts = [text(LEFT - 10, top + 11, title, anchor="end", weight="bold"),
             text(LEFT - 10, top + 26, work["unit"], size=11, anchor="end", colour="#666")]
    for one, colour in bars:
        ratio, least, most = (one[key] / base for key in ("median", "least", "most"))
        middle = top + BAR / 2
        parts += [rectangle(LEFT, top, ratio * scale, BAR, colour),
                  line(LEFT + least * scale, middle, LEFT + most * scale, middle, "#222"),
                  figures(LEFT + max(ratio, most) * scale + 6, top + 11, ratio, one["median"])]
        top += BAR + BETWEEN_BARS
    return parts, below


def figures(x, y, ratio, value):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" fill="#222">{ratio:.2f} ×'
            f'<tspan dx="8" fill="#777">{figure(value)}</tspan></text>')


def legend():
    parts, x = [], 20.0
    for _, words, colour in SERIES:
        parts += [rectangle(x, 66, 12, 12, colour), text(x + 17, 76, words)]
        x += 34 + 6.2 * len(words)
    return parts


def draw(report):
    """The whole picture as text; the same report makes the same picture."""
    works = {work["key"]: work for work in report["works"]}
    drawn = [(title, works[key], bars_of(works[key], reference)) for key, reference, title in WORKS
             if key in works]
    drawn = [(title, work, bars) for title, work, bars in drawn if bars]
    longest = max((max(one["most"] for one, _ in bars) / bars[0][0]["median"] for _, _, bars in drawn),
                  default=1.0)
    scale = (WIDTH - LEFT - RIGHT) / max(longest, 1.0)
    parts, y = [], float(TOP)
    for title, work, bars in drawn:
        more, y = draw_work(title, work, bars, y, scale)
        parts += more
    parts.insert(0, line(LEFT + scale, TOP - 10, LEFT + scale, y - 8, "#999"))
    frame = [rectangle(0, 0, WIDTH, y + 6, "#ffffff"), text(20, 30, TITLE, size=19, weight="bold"),
             text(20, 50, SUBTITLE, colour="#555"), *legend()]
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + 6:.0f}" '
                      f'role="img" aria-label="{escape(TITLE)}" {FONT}>', *frame, *parts, "</svg>"]) + "\n"
