
import sys; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, "/tmp/pub_old/tests")
import json, pathlib, hashlib, numpy as np
old = "pub_old" in sys.argv[1]
if old:
    from dpnet_lite.published.coco_annotations import read_annotations
else:
    from dpnet_lite.published.coco_masks import read_annotations
from dpnet_lite.published.coco_masks import draw_masks, mask_of
out = {}
for path in sorted(pathlib.Path(sys.argv[2]).rglob("*.json")):
    try:
        a = read_annotations(path)
        masks = [hashlib.sha256(mask_of(i.instances, i.height, i.width).tobytes()).hexdigest()[:12] for i in a.images]
        out[path.name + str(path.parent.name)] = repr((a.n_listed, [tuple(i) for i in a.images])) + str(masks)
    except Exception as e:
        out[path.name + str(path.parent.name)] = type(e).__name__ + ": " + str(e)
json.dump(out, open(sys.argv[3], "w"))
