//! Every operation of the dense maths: `cargo bench --bench compute`.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ndarray::{Array3, s};
use oodstream::bench::{FrameMaps, MapShapes, points, scene};
use oodstream::compute::cpu::Cpu;
use oodstream::compute::gpu::Gpu;
use oodstream::compute::{
    Backend, Clustering, Codebook, Detection, Grid, Maps, Recipe, Seeds, Size, Statistic, Target, Term, Unit,
    Upsampling, adapters,
};

const TARGET: Target = Target { size: Size { width: 1280, height: 720 }, threshold: 0.0 };

/// The CPU, and the GPU where it is real.
fn backends() -> Vec<Box<dyn Both>> {
    let mut all: Vec<Box<dyn Both>> = Vec::new();
    if let Ok(cpu) = Cpu::new(None) {
        all.push(Box::new(cpu));
    }
    if adapters().iter().any(|a| !a.software)
        && let Ok(gpu) = Gpu::new(false)
    {
        all.push(Box::new(gpu));
    }
    all
}

trait Both: Backend + Clustering {}
impl<T: Backend + Clustering> Both for T {}

fn kmeans(c: &mut Criterion) {
    let mut group = c.benchmark_group("kmeans-10-iterations");
    group.sample_size(10);
    for (n, d, k) in [(32768, 32, 20), (32768, 64, 20), (32768, 256, 20), (32768, 512, 20), (3680, 64, 20)] {
        let data = points(n, d, k, 1);
        let seeds = data.slice(s![..k, ..]).to_owned();
        for backend in &mut backends() {
            group.bench_function(BenchmarkId::new(backend.name(), format!("N={n} D={d} K={k}")), |b| {
                b.iter(|| black_box(backend.kmeans(data.view(), Seeds::Given(seeds.view()), 10)));
            });
        }
    }
    // What the fused kernel is to be measured against: ten products of the same size by the gemm crate, nothing else.
    let (n, d, k) = (32768, 64, 20);
    let (data, mut product) = (points(n, d, k, 1), vec![0.0f32; n * k]);
    group.bench_function(BenchmarkId::new("gemm-crate-alone", format!("N={n} D={d} K={k}")), |b| {
        b.iter(|| {
            for _ in 0..10 {
                // SAFETY: the strides are those of row-major [n, k] = [n, d] x [k, d]^T, within the three buffers.
                unsafe {
                    gemm::gemm(
                        n,
                        k,
                        d,
                        product.as_mut_ptr(),
                        1,
                        k as isize,
                        false,
                        data.as_ptr(),
                        1,
                        d as isize,
                        data.as_ptr(),
                        d as isize,
                        1,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        gemm::Parallelism::Rayon(0),
                    );
                }
            }
            black_box(&product);
        });
    });
    group.finish();
}

fn recipe(terms: &[(Statistic, Unit)]) -> Recipe {
    let term = |&(statistic, unit)| Term { statistic, unit, weight: 1.0, mean: 0.0, deviation: 1.0 };
    Recipe {
        terms: terms.iter().map(term).collect(),
        k: vec![5, 10, 20],
        seed: 1,
        max_iterations: 50,
        unit_length: true,
        codebook: None,
        warm_start: false,
        smoothing: None,
        grid: Grid::Features,
        upsampling: Upsampling::Bilinear,
    }
}

fn detect(c: &mut Criterion) {
    let shapes = MapShapes { logits: [11, 92, 160], features: vec![[64, 46, 80], [40, 46, 80], [96, 23, 40]] };
    let frames = scene(&shapes, 8, 3);
    let codebook = Arc::new(Codebook { centroids: points(256, 200, 16, 5) });
    let pixel = |s| recipe(&[(s, Unit::Pixel)]);
    let cluster = recipe(&[(Statistic::MaxLogit, Unit::Cluster)]);
    let finest = |recipe: Recipe| Recipe { grid: Grid::Finest, ..recipe };
    let cases = [
        ("max-logit", pixel(Statistic::MaxLogit)),
        ("max-logit-finest", finest(pixel(Statistic::MaxLogit))),
        ("entropy", pixel(Statistic::Entropy)),
        ("entropy-finest", finest(pixel(Statistic::Entropy))),
        ("bank-256", Recipe { codebook: Some(codebook), ..pixel(Statistic::Bank) }),
        ("cluster-cold", cluster.clone()),
        ("cluster-warm", Recipe { warm_start: true, smoothing: Some(0.5), ..cluster.clone() }),
        ("cluster-warm-guided", Recipe { warm_start: true, upsampling: Upsampling::Guided, ..cluster }),
    ];
    let mut group = c.benchmark_group("detect-720p");
    group.sample_size(20);
    for backend in &mut backends() {
        for (name, recipe) in &cases {
            let mut out = Detection::default();
            let mut next = frames.iter().cycle();
            group.bench_function(BenchmarkId::new(backend.name(), name), |b| {
                b.iter(|| {
                    let Some(FrameMaps { logits, features, picture }) = next.next() else { return };
                    let features: Vec<_> = features.iter().map(|f| f.view()).collect();
                    let maps = Maps { logits: logits.view(), features: &features, picture: Some(picture.luma()) };
                    black_box(backend.detect(0, &maps, recipe, TARGET, &mut out)).ok();
                });
            });
            backend.reset(0);
        }
    }
    group.finish();
}

/// The nearest of 4,096 centroids for every token of a large image encoder.
fn bank(c: &mut Criterion) {
    let mut group = c.benchmark_group("bank-4096");
    group.sample_size(10);
    for (rows, columns) in [(46, 80), (92, 160)] {
        for dims in [384, 1024] {
            let codebook = Arc::new(Codebook { centroids: points(4096, dims, 64, 5) });
            let recipe = Recipe { codebook: Some(codebook), ..recipe(&[(Statistic::Bank, Unit::Pixel)]) };
            let features = points(rows * columns, dims, 64, 7).reversed_axes();
            let Ok(features) = features.as_standard_layout().into_owned().into_shape_with_order((dims, rows, columns))
            else {
                continue;
            };
            let (views, none) = ([features.view()], Array3::zeros((0, rows, columns)));
            let maps = Maps { logits: none.view(), features: &views, picture: None };
            for backend in &mut backends() {
                let mut out = Detection::default();
                let name = format!("N={} D={dims}", rows * columns);
                group.bench_function(BenchmarkId::new(backend.name(), name), |b| {
                    b.iter(|| black_box(backend.detect(0, &maps, &recipe, TARGET, &mut out)).is_ok());
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, kmeans, detect, bank);
criterion_main!(benches);
