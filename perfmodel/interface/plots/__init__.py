"""Pictures (Altair): the same figure as PNG, SVG, or HTML that needs no network.

Colours mean the same in all of them, and are told apart by the colour-blind; shapes and dashes tell
chips apart in grey print.
"""

from perfmodel.interface.plots.bars import Effect as Effect
from perfmodel.interface.plots.bars import TierUse as TierUse
from perfmodel.interface.plots.bars import breakdown as breakdown
from perfmodel.interface.plots.bars import energy as energy
from perfmodel.interface.plots.bars import floorplans as floorplans
from perfmodel.interface.plots.bars import placement as placement
from perfmodel.interface.plots.bars import stacked as stacked
from perfmodel.interface.plots.bars import tornado as tornado
from perfmodel.interface.plots.bars import waterfall as waterfall
from perfmodel.interface.plots.lines import FrontPoint as FrontPoint
from perfmodel.interface.plots.lines import front as front
from perfmodel.interface.plots.lines import roofline as roofline
from perfmodel.interface.plots.lines import speed_against_price as speed_against_price
from perfmodel.interface.plots.maps import Cell as Cell
from perfmodel.interface.plots.maps import crossover as crossover
from perfmodel.interface.plots.maps import floorplan as floorplan
from perfmodel.interface.plots.parity import ParityPoint as ParityPoint
from perfmodel.interface.plots.parity import parity as parity
from perfmodel.interface.plots.parity import residuals as residuals
from perfmodel.interface.plots.sensitivities import Sensitivity as Sensitivity
from perfmodel.interface.plots.sensitivities import sensitivities as sensitivities
from perfmodel.interface.plots.theme import as_png as as_png
from perfmodel.interface.plots.theme import as_svg as as_svg
from perfmodel.interface.plots.theme import check_picture as check_picture
from perfmodel.interface.plots.theme import colours_of as colours_of
from perfmodel.interface.plots.theme import joined as joined
from perfmodel.interface.plots.theme import save as save
