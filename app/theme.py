"""The three palettes of gpudeck and the names the rest of the TUI uses for colour.

One accent per palette. State colours are the only others, and none of them carries a meaning alone: every state also
has a glyph and a word (`app.present.glyphs`). CSS and content refer to `$tone-*`, never to a colour value.
"""

from __future__ import annotations

from typing import Final

from textual.theme import Theme


def _theme(name: str, *, dark: bool, tones: dict[str, str], ground: dict[str, str]) -> Theme:
    return Theme(
        name=name,
        dark=dark,
        primary=tones["accent"],
        secondary=tones["idle"],
        accent=tones["accent"],
        success=tones["busy"],
        warning=tones["starting"],
        error=tones["failed"],
        foreground=ground["foreground"],
        background=ground["background"],
        surface=ground["surface"],
        panel=ground["panel"],
        variables={
            **{f"tone-{key}": value for key, value in tones.items()},
            "tone-strong": ground["strong"],
            "tone-muted": ground["muted"],
            "tone-faint": ground["faint"],
            "tone-track": ground["track"],
            "tone-selected": ground["selected"],
            "tone-frame": ground["frame"],
            "tone-badge": ground["badge"],
            "border": tones["accent"],
            "border-blurred": ground["frame"],
            "footer-background": ground["background"],
            "footer-key-foreground": tones["accent"],
            "footer-description-foreground": ground["muted"],
            "footer-item-background": ground["background"],
            "footer-key-background": ground["background"],
            "footer-description-background": ground["background"],
            "block-cursor-background": tones["accent"],
            "block-cursor-foreground": ground["background"],
            "block-cursor-text-style": "bold",
            "input-selection-background": ground["selected"],
            "input-cursor-background": tones["accent"],
            "input-cursor-foreground": ground["background"],
            "scrollbar": ground["track"],
            "scrollbar-hover": ground["muted"],
            "scrollbar-active": tones["accent"],
            "scrollbar-background": ground["background"],
            "scrollbar-background-hover": ground["background"],
            "scrollbar-background-active": ground["background"],
            "scrollbar-corner-color": ground["background"],
        },
    )


DARK: Final = _theme(
    "gpudeck-dark",
    dark=True,
    tones={
        "accent": "#a3d76e",
        "busy": "#a3d76e",
        "idle": "#6c8ebf",
        "starting": "#e3b565",
        "draining": "#b294d8",
        "failed": "#ef7a78",
        "auto": "#e0a26a",
        "info": "#74b4d4",
    },
    ground={
        "background": "#0f1318",
        "surface": "#141a21",
        "panel": "#1a212a",
        "foreground": "#cfd6df",
        "strong": "#f2f5f8",
        "muted": "#8591a1",
        "faint": "#4a5563",
        "track": "#252e39",
        "selected": "#1c2733",
        "frame": "#2b3643",
        "badge": "#0f1318",
    },
)

LIGHT: Final = _theme(
    "gpudeck-light",
    dark=False,
    tones={
        "accent": "#3d7a12",
        "busy": "#3d7a12",
        "idle": "#3f68a3",
        "starting": "#9a6200",
        "draining": "#7748ab",
        "failed": "#c0312f",
        "auto": "#a4510a",
        "info": "#1a6f96",
    },
    ground={
        "background": "#fbfbf9",
        "surface": "#f4f4f0",
        "panel": "#ecece7",
        "foreground": "#2b323a",
        "strong": "#0e1318",
        "muted": "#626d79",
        "faint": "#a5adb6",
        "track": "#dfe2e0",
        "selected": "#e6edde",
        "frame": "#cdd2d4",
        "badge": "#ffffff",
    },
)

CONTRAST: Final = _theme(
    "gpudeck-contrast",
    dark=True,
    tones={
        "accent": "#ffe600",
        "busy": "#3dff5c",
        "idle": "#5cc8ff",
        "starting": "#ffb000",
        "draining": "#ff9cff",
        "failed": "#ff6060",
        "auto": "#ffb000",
        "info": "#5cc8ff",
    },
    ground={
        "background": "#000000",
        "surface": "#000000",
        "panel": "#141414",
        "foreground": "#ffffff",
        "strong": "#ffffff",
        "muted": "#d0d0d0",
        "faint": "#9a9a9a",
        "track": "#3a3a3a",
        "selected": "#303030",
        "frame": "#9a9a9a",
        "badge": "#000000",
    },
)

THEMES: Final = (DARK, LIGHT, CONTRAST)
