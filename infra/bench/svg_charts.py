"""pygal with our style: the same figures give the same bytes, legible on light and on dark pages.

Import pygal from here. It adds an import hook for plug-ins, which Python 3.11 warns of at each later import; this
module removes the hook.
"""

import re
import sys

import pygal
from pygal.style import Style

__all__ = ["COMMON", "pygal", "svg"]

sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

#: Grey that can be read on white and on black.
GREY = "#808890"
#: Told apart by those who see colours differently too (Okabe and Ito), on white and on black.
COLORS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#b8a800")
FONT = "-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif"
STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground=GREY,
    foreground_strong=GREY,
    foreground_subtle=GREY,
    value_colors=(GREY,) * len(COLORS),
    colors=COLORS,
    opacity="1",
    opacity_hover="1",
    guide_stroke_color=GREY + "40",
    major_guide_stroke_color=GREY + "60",
    font_family=FONT,
    title_font_family=FONT,
    label_font_family=FONT,
    major_label_font_family=FONT,
    value_font_family=FONT,
    legend_font_family=FONT,
    title_font_size=17,
    label_font_size=13,
    major_label_font_size=13,
    value_font_size=12,
    legend_font_size=13,
)
#: pygal dates its files and adds a script: the date would change a kept file, and the script is not used.
_NOISE = re.compile(r"<!--.*?-->|<script.*?</script>", re.DOTALL)

#: Arguments of every chart.
COMMON = {
    "style": STYLE,
    "js": [],
    "width": 860,
    "legend_at_bottom": True,
    "legend_at_bottom_columns": 6,
    "margin": 12,
}


def svg(chart: pygal.Graph, name: str) -> str:
    """A chart as the text of a file."""
    chart.uuid = name
    drawn: str = _NOISE.sub("", chart.render(is_unicode=True))
    return drawn + "\n"
