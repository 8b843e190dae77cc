"""Static figures, drawn from rows of figures: no torch, no model."""

import hashlib
import io
import json

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator


def as_bytes(figure: Figure, file_format: str) -> bytes:
    """A figure as PNG or SVG: the same bytes for the same rows, with a digest of what it shows."""
    buffer = io.BytesIO()
    metadata = {"Description": shown(figure)} | ({"Date": None} if file_format == "svg" else {})
    with mpl.rc_context({"svg.hashsalt": "rulekeep", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=file_format, dpi=150, metadata=metadata)
    return buffer.getvalue()


def shown(figure: Figure) -> str:
    """A digest of the values, labels and titles in a figure, independent of the layout.

    It stands in the file of a figure, to compare a committed one with what its records give now.
    """
    digest = hashlib.sha256()
    for axes in figure.axes:
        texts = [axes.get_title("left"), axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
        for axis in (axes.xaxis, axes.yaxis):
            ticks = axis.get_major_locator()
            # Names of rows; where ticks of numbers stand is found as they are drawn.
            if isinstance(ticks, FixedLocator):
                texts += axis.get_major_formatter().format_ticks(list(ticks()))
        texts += [text.get_text() for text in axes.texts]
        values = [np.asarray(line.get_xydata()) for line in axes.lines]
        values += [
            np.asarray(path.vertices) for lines in axes.collections for path in lines.get_paths()
        ]
        values += [np.asarray(image.get_array()) for image in axes.images]
        for patch in axes.patches:
            values.append(patch.get_patch_transform().transform(patch.get_path().vertices))
        texts += [f"{line.get_label()} {line.get_color()}" for line in axes.lines]
        texts += [str(patch.get_label()) for patch in axes.patches]
        rounded = [[f"{value:.6g}" for value in one.ravel()] for one in values]
        digest.update(json.dumps([texts, rounded]).encode())
    for part in (figure, *figure.subfigs):
        for text in part.texts:
            digest.update(text.get_text().encode())
    return digest.hexdigest()
