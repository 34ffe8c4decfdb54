"""The contract between all rooms: classes with roles, image pools, test pairs, digests."""

from typing import TYPE_CHECKING

from oshp_bench.lazy import imported_at_first_use

if TYPE_CHECKING:
    from oshp_bench.manifest.model import Manifest as Manifest
    from oshp_bench.manifest.model import OshpClass as OshpClass
    from oshp_bench.manifest.model import Pairs as Pairs
    from oshp_bench.manifest.model import Pools as Pools
    from oshp_bench.manifest.store import load_manifest as load_manifest
    from oshp_bench.manifest.store import manifest_path as manifest_path
    from oshp_bench.manifest.store import save_manifest as save_manifest
    from oshp_bench.manifest.store import shipped_manifests as shipped_manifests

_HOMES = {
    "Manifest": "model",
    "OshpClass": "model",
    "Pairs": "model",
    "Pools": "model",
    "load_manifest": "store",
    "manifest_path": "store",
    "save_manifest": "store",
    "shipped_manifests": "store",
}
__all__ = list(_HOMES)
__getattr__, __dir__ = imported_at_first_use(__name__, _HOMES)
