"""Makes stock nerfstudio 1.1.5 importable beside today's torch, on any machine, with no network.

Only what trains with nerfstudio or measures against it calls `prepare()`, before its first `import nerfstudio`, in the
environment that `script/bootstrap --train` makes. Baking and serving read checkpoints themselves (scenes/nerfstudio.py).
"""

import functools
from importlib.util import find_spec
from pathlib import Path

import torch


def prepare() -> None:
    """Mends two things in this process; calling it again does nothing. Changes no number that nerfstudio renders."""
    _torchvision_operators()
    _lpips_without_download()


@functools.cache
def _torchvision_operators() -> torch.library.Library | None:
    """The operator declarations that torchvision's import looks for, where its own library cannot be loaded.

    torchvision's wheel is linked with CUDA; beside a CPU build of torch its library does not load, and the import then
    fails with "operator torchvision::nms does not exist". Nothing here calls these operators. None: not needed.
    The result is kept alive by the cache: torch forgets the declarations with it.
    """
    spec = find_spec("torchvision")
    if spec is None:
        return None
    try:
        torch.ops.load_library(Path(spec.origin).with_name("_C.so"))
        return None
    except OSError:
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library


@functools.cache
def _lpips_without_download() -> None:
    """Every nerfstudio model builds an LPIPS metric, which downloads AlexNet; here it keeps random weights.

    So LPIPS numbers printed by nerfstudio mean nothing in this process; PSNR and SSIM are not touched.
    """
    from torchmetrics.functional.image import lpips

    features = lpips._get_tv_model_features
    lpips._get_tv_model_features = lambda net, pretrained=False: features(net, pretrained=False)
