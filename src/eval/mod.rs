//! Metrics: PSNR, SSIM, retrieval, and the report that holds them.

pub mod image;
pub mod report;
pub mod retrieval;
pub mod search;
