//! Throwaway.
use candle_core::{Device, Tensor};
use std::time::Instant;
fn t(name: &str, flop: f64, f: impl Fn() -> Tensor) {
    for _ in 0..3 { f(); }
    let w = Instant::now();
    let mut n = 0;
    while w.elapsed().as_secs_f64() < 0.25 { f(); n += 1; }
    println!("{name}: {:.1} GFLOP/s", flop * n as f64 / w.elapsed().as_secs_f64() / 1e9);
}
fn main() {
    let d = Device::Cpu;
    gemm::set_threading_threshold(1 << 27);
    for (r, i, o) in [(512, 128, 128), (512, 128, 384), (512, 128, 256), (512, 256, 128), (512, 1176, 128), (512,588,128),(128, 512, 512), (1024, 128, 256), (2048, 128, 256), (32, 128, 256), (590, 768, 4096)] {
        let x = Tensor::randn(0f32, 1., (r, i), &d).unwrap();
        let w = Tensor::randn(0f32, 1., (o, i), &d).unwrap();
        let y = Tensor::randn(0f32, 1., (r, o), &d).unwrap();
        let wt = w.t().unwrap().contiguous().unwrap();
        let f = 2.0 * (r * i * o) as f64;
        println!("-- {r} {i} {o}");
        t("  x wT      ", f, || x.matmul(&w.t().unwrap()).unwrap());
        t("  x wT contig", f, || x.matmul(&wt).unwrap());
        t("  (w xT)T    ", f, || w.matmul(&x.t().unwrap()).unwrap());
        t("  dy w      ", f, || y.matmul(&w).unwrap());
        t("  dyT x     ", f, || y.t().unwrap().matmul(&x).unwrap());
        t("  (xT dy)T  ", f, || x.t().unwrap().matmul(&y).unwrap());
        let (xt, yt) = (x.t().unwrap().contiguous().unwrap(), y.t().unwrap().contiguous().unwrap());
        t("  yt x     ", f, || yt.matmul(&x).unwrap());
        t("  xt y     ", f, || xt.matmul(&y).unwrap());
    }
}
