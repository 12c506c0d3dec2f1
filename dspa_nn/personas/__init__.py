"""Personas: weights on axes of style, and the output latents whose ablation serves them."""

from dspa_nn.personas.candidates import style_candidates
from dspa_nn.personas.doses import Dose, dose_response
from dspa_nn.personas.effects import AxisEffects, known_effects
from dspa_nn.personas.measure import measure_effects
from dspa_nn.personas.persona import Persona, read_weights
from dspa_nn.personas.reading import read_map

__all__ = [
    "AxisEffects",
    "Dose",
    "Persona",
    "dose_response",
    "known_effects",
    "measure_effects",
    "read_map",
    "read_weights",
    "style_candidates",
]
