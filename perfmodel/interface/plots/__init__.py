"""Pictures (Altair): the same figure as PNG, SVG, or HTML that needs no network.

Colours mean the same in all of them, and are told apart by the colour-blind; shapes and dashes tell
chips apart in grey print.
"""
