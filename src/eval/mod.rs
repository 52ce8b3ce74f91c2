//! Metrics: PSNR, SSIM, retrieval.
