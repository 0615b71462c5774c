"""speedgate: how a performance claim is measured, stored and judged. Knows no diffusion model."""

__version__ = "0.1.0"
