"""ledvolume: frustum-correct content for LED volumes, straight from a nerfstudio checkpoint."""

__version__ = "0.1.0"
