"""The settings of the website. tools/build_site.py runs Sphinx with them on its copy of the sources."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from myst_nb.core.render import NbElementRenderer

project = html_title = "DPNet Lite"
author = "the DPNet Lite developers"
html_show_copyright = html_show_sphinx = False
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
exclude_patterns = ["files"]
templates_path: list[str] = []

# Notebooks come executed, and are not run again.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}  # the explorers have pictures of their own, and these files lie on another host
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
nb_render_markdown_format = "myst"  # of an output; the default knows no tables
nb_mime_priority_overrides = [("html", "text/html", 10)]  # a page of a lesson before its plain text
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "attrs_inline"]
myst_heading_anchors = 4  # the links between the pages name a code host's anchors

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["explorer.js"]
html_copy_source = html_show_sourcelink = False
html_extra_path = [os.environ["DPNET_LITE_SITE_EXTRA"]]  # what tools/build_site.py made beside the sources: the slides
pygments_dark_style = "github-dark"

# MathJax from a package, in one file that draws the formulas as SVG: no font and no other host.
_mathjax = importlib.util.find_spec("sphinx-mathjax-offline")
assert _mathjax is not None and _mathjax.origin is not None, "install the extra `site`"
html_static_path.append(str(Path(_mathjax.origin).parent / "static" / "mathjax" / "tex-svg.js"))
mathjax_path = "tex-svg.js"
mathjax3_config = {"options": {"enableMenu": False}}  # the menu would load more files

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
default_role = "code"  # docstrings name things in single backticks
napoleon_use_rtype = False
python_use_unqualified_type_names = True
nitpicky = False
suppress_warnings = ["myst.xref_ambiguous"]


def _with_alternative_text(original: Any) -> Any:
    """MyST-NB takes a picture's size from its output, but not the text; pyproject.toml bounds its version."""

    def render_image(self: Any, data: Any) -> Any:
        nodes = original(self, data)
        nodes[0]["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
        return nodes

    return render_image


NbElementRenderer.render_image = _with_alternative_text(NbElementRenderer.render_image)


def _skip_field(_app: Any, _what: str, _name: str, found: object, skip: bool, _options: object) -> bool:
    """A named tuple's fields have docstrings of Python's own, which say nothing; their types stand in the signature."""
    return skip or (getattr(found, "__doc__", None) or "").startswith("Alias for field number")


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", _skip_field)
