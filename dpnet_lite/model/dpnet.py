"""DPNet whole: a frozen backbone before the head. Images in, logits out."""

from __future__ import annotations

from torch import Tensor, nn

from dpnet_lite.config import ModelConfig
from dpnet_lite.model.backbone import Backbone
from dpnet_lite.model.head import Head, Output


class DPNet(nn.Module):
    """Backbone and head in one: images in, logits out."""

    def __init__(self, config: ModelConfig, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = Head(config, backbone.out_channels, backbone.deep_channels)

    def forward(
        self,
        support_images: Tensor,
        support_masks: Tensor,
        query_images: Tensor,
        *,
        query_masks: Tensor | None = None,
        trace: bool = False,
    ) -> Output:
        """Segment query images.

        Args:
            support_images: float [B, K, 3, H, W], normalised.
            support_masks: float [B, K, H, W] in [0, 1].
            query_images: float [B, 3, H, W], normalised.
            query_masks: float [B, H, W], for selection "oracle" only.
            trace: also return the intermediates.

        Returns:
            logits [B, 2, H, W] and, on request, the trace.
        """
        supports = self.backbone(support_images.flatten(0, 1)).unflatten(0, support_images.shape[:2])
        size = (query_images.shape[-2], query_images.shape[-1])
        return self.head(
            supports,
            support_masks,
            self.backbone(query_images),
            size=size,
            query_masks=query_masks,
            trace=trace,
        )
