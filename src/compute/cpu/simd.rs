//! Choice of the instruction set at run time.
//!
//! `pulp`'s registers are as fast in these kernels (`cargo bench --bench libraries`), but have no prefetch, and a level here can be
//! chosen by a test that holds all of them equal.
//!
//! A kernel is a struct with an inlined `run`, generic over a vector type. [`Level::run`] compiles it once per instruction
//! set, inside a function that enables that set, so that explicit vectors and plain loops alike use it.

/// One SIMD register of f32.
///
/// Implementations are private to this module and only named by [`Level::run`], so a value exists only where the CPU has
/// been found to support its instructions.
pub(crate) trait Lanes: Copy {
    /// f32 per register.
    const N: usize;
    fn splat(value: f32) -> Self;
    /// # Safety
    /// `from` must be readable for `N` f32.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// `to` must be writable for `N` f32.
    unsafe fn store(self, to: *mut f32);
    /// Asks for a cache line that will be read soon. Any address will do.
    #[inline(always)]
    fn prefetch(_at: *const f32) {}
    fn sub(self, other: Self) -> Self;
    fn min(self, other: Self) -> Self;
    fn max(self, other: Self) -> Self;
    /// `self * factor + summand`, with one rounding where the CPU has FMA.
    fn mul_add(self, factor: Self, summand: Self) -> Self;
    /// Per lane: `yes` where `a > b`, else `no`.
    fn select_greater(a: Self, b: Self, yes: Self, no: Self) -> Self;
}

/// A piece of work that is compiled for each instruction set.
pub(crate) trait Kernel {
    type Output;
    /// `P` registers of `V` are what a point-parallel loop should hold at once. Must be `#[inline(always)]`.
    fn run<V: Lanes, const P: usize>(self) -> Self::Output;
}

/// An instruction set that this CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Plain,
}

impl Level {
    /// The levels that this CPU can run, best first.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                levels.push(Self::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                levels.push(Self::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        levels.push(Self::Neon);
        levels.push(Self::Plain);
        levels
    }

    /// The best that this CPU can run.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// The name, for people to read.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "AVX2+FMA",
            #[cfg(target_arch = "aarch64")]
            Self::Neon => "NEON",
            Self::Plain => "no special instructions",
        }
    }

    /// Runs the version of `kernel` for this instruction set.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            // SAFETY: a level other than `Plain` is only made by `available`, which has found these features in the CPU.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => unsafe { x86::avx512(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2(kernel) },
            #[cfg(target_arch = "aarch64")]
            Self::Neon => kernel.run::<neon::F32x4, 4>(),
            Self::Plain => kernel.run::<Plain, 2>(),
        }
    }
}

/// Four lanes that any compiler target can hold.
#[derive(Clone, Copy)]
struct Plain([f32; 4]);

impl Lanes for Plain {
    const N: usize = 4;
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: readable by this function's contract; no alignment is assumed.
        unsafe { Self(from.cast::<[f32; 4]>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: writable by this function's contract; no alignment is assumed.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Self::select_greater(self, other, other, self)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Self::select_greater(self, other, self, other)
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - other.0[i]))
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, summand: Self) -> Self {
        // Two roundings: f32::mul_add is a library call where the CPU has no FMA.
        Self(std::array::from_fn(|i| self.0[i] * factor.0[i] + summand.0[i]))
    }
    #[inline(always)]
    fn select_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if a.0[i] > b.0[i] { yes.0[i] } else { no.0[i] }))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Kernel, Lanes};
    use std::arch::x86_64::*;

    /// # Safety
    /// The CPU must have these features.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub unsafe fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<F32x16, 4>()
    }

    /// # Safety
    /// The CPU must have these features.
    #[target_feature(enable = "avx2,fma")]
    pub unsafe fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run::<F32x8, 2>()
    }

    #[derive(Clone, Copy)]
    pub struct F32x16(__m512);

    // SAFETY (all of this impl): values exist only inside `avx512`, so the CPU has AVX-512F; pointers are good for 16 f32
    // by the contracts of `load` and `store`, and the unaligned forms are used.
    impl Lanes for F32x16 {
        const N: usize = 16;
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm512_set1_ps(value)) }
        }
        #[inline(always)]
        fn prefetch(at: *const f32) {
            // SAFETY: above this impl.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: above this impl.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm512_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn mul_add(self, factor: Self, summand: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, summand.0)) }
        }
        #[inline(always)]
        fn select_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
            // SAFETY: above this impl.
            unsafe {
                let greater = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a.0, b.0);
                Self(_mm512_mask_blend_ps(greater, no.0, yes.0))
            }
        }
    }

    #[derive(Clone, Copy)]
    pub struct F32x8(__m256);

    // SAFETY (all of this impl): values exist only inside `avx2`, so the CPU has AVX2 and FMA; pointers are good for 8 f32
    // by the contracts of `load` and `store`, and the unaligned forms are used.
    impl Lanes for F32x8 {
        const N: usize = 8;
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm256_set1_ps(value)) }
        }
        #[inline(always)]
        fn prefetch(at: *const f32) {
            // SAFETY: above this impl.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm256_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: above this impl.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm256_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm256_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm256_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        fn mul_add(self, factor: Self, summand: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm256_fmadd_ps(self.0, factor.0, summand.0)) }
        }
        #[inline(always)]
        fn select_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(_mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_GT_OQ>(a.0, b.0))) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use super::Lanes;
    use std::arch::aarch64::*;

    #[derive(Clone, Copy)]
    pub struct F32x4(float32x4_t);

    // SAFETY (all of this impl): NEON is part of the aarch64 targets that Rust has; pointers are good for 4 f32 by the
    // contracts of `load` and `store`.
    impl Lanes for F32x4 {
        const N: usize = 4;
        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(vdupq_n_f32(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(vld1q_f32(from)) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: above this impl.
            unsafe { vst1q_f32(to, self.0) }
        }
        #[inline(always)]
        fn min(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(vminq_f32(self.0, other.0)) }
        }
        #[inline(always)]
        fn max(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(vmaxq_f32(self.0, other.0)) }
        }
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(vsubq_f32(self.0, other.0)) }
        }
        #[inline(always)]
        fn mul_add(self, factor: Self, summand: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(vfmaq_f32(summand.0, self.0, factor.0)) }
        }
        #[inline(always)]
        fn select_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
            // SAFETY: above this impl.
            unsafe { Self(vbslq_f32(vcgtq_f32(a.0, b.0), yes.0, no.0)) }
        }
    }
}
