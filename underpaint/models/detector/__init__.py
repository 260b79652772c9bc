"""ViTDet (Li et al. 2022): a plain ViT with windows, a simple feature pyramid and a Cascade Mask R-CNN on top."""
