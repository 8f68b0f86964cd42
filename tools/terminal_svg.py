#!/usr/bin/env python3
"""A terminal's screen as an SVG picture, for the README: text with colour codes on standard input, as `tmux capture-pane -e -p` gives it.
Usage: tools/terminal_svg.py TITLE [COLUMNS] <screen.txt >picture.svg    (docs/watching.md has the commands that made ours)"""
import re
import sys
from xml.sax.saxutils import escape

WIDTH, HEIGHT, SIZE, MARGIN, BAR = 8.4, 18, 14, 14, 30
COLORS = {30: "#5c6370", 31: "#e06c75", 32: "#98c379", 33: "#e5c07b", 34: "#61afef", 35: "#c678dd", 36: "#56b6c2", 37: "#abb2bf", 90: "#7f848e"}


def runs(line):
    """[(column, text, colour, bold)] of one line."""
    column, color, bold = 0, None, False
    for codes, text in re.findall(r"\x1b\[([0-9;]*)m|([^\x1b]+)", line):
        if text:
            yield column, text, color, bold
            column += len(text)
            continue
        for code in (int(c or 0) for c in codes.split(";")):
            if code == 0:
                color, bold = None, False
            elif code == 1:
                bold = True
            elif code == 39:
                color = None
            elif code in COLORS:
                color = code


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    columns = int(sys.argv[2]) if len(sys.argv) > 2 else 80
    width, height = round(columns * WIDTH + 2 * MARGIN), len(lines) * HEIGHT + 2 * MARGIN + BAR
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">')
    print(f"<title>{escape(sys.argv[1])}</title>")
    print(f'<rect width="100%" height="100%" rx="8" fill="#1e2127"/><path d="M0 {BAR}h{width}" stroke="#333842"/>')
    for i, color in enumerate(("#e06c75", "#e5c07b", "#98c379")):
        print(f'<circle cx="{18 + 18 * i}" cy="{BAR / 2}" r="5" fill="{color}"/>')
    print(f'<g font-family="DejaVu Sans Mono,Menlo,Consolas,ui-monospace,monospace" font-size="{SIZE}" fill="#d7dae0">')
    print(f'<text x="{width / 2}" y="{BAR / 2 + 5}" text-anchor="middle" fill="#7f848e">{escape(sys.argv[1])}</text>')
    for row, line in enumerate(lines):
        y = BAR + MARGIN + row * HEIGHT + SIZE
        for column, text, color, bold in runs(line):
            if not text.strip():
                continue
            lead = len(text) - len(text.lstrip())
            text = text.strip().replace(" ", "\u00a0")  # browsers fold spaces, and then stretch what is left
            x, length = MARGIN + (column + lead) * WIDTH, len(text) * WIDTH
            style = (f' fill="{COLORS[color]}"' if color else "") + (' font-weight="bold"' if bold else "")
            print(f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs"{style}>{escape(text)}</text>')
    print("</g>\n</svg>")


main()
