//! The choice of the instruction set at run time, for all hot loops of this crate.
//!
//! A kernel is a struct that implements [`pulp::WithSimd`] with an inlined body, generic over [`pulp::Simd`].
//! [`Level::run`] calls the version of it that is compiled for one instruction set, so that explicit registers
//! ([`F32s`]) and plain loops, which the compiler vectorises, alike use it.

use pulp::{Simd, WithSimd};

/// An instruction set that this CPU has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    /// AVX-512 F, BW, CD, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
    /// The baseline of the target.
    Plain,
}

impl Level {
    /// The levels that this CPU can run, best first.
    pub fn available() -> Vec<Self> {
        let best: Vec<Option<Self>> = vec![
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V4::try_new().map(Self::Avx512),
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V3::try_new().map(Self::Avx2),
            #[cfg(target_arch = "aarch64")]
            pulp::aarch64::Neon::try_new().map(Self::Neon),
        ];
        best.into_iter().flatten().chain([Self::Plain]).collect()
    }

    /// The best that this CPU can run.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// The name, for display.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "AVX-512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "AVX2+FMA",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "NEON",
            Self::Plain => "no special instructions",
        }
    }

    /// Runs the version of `kernel` for this instruction set.
    #[inline]
    pub fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => Simd::vectorize(simd, kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => Simd::vectorize(simd, kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(simd) => Simd::vectorize(simd, kernel),
            Self::Plain => Simd::vectorize(pulp::Scalar128b, kernel),
        }
    }
}

/// Whether a point-parallel loop has room for four registers of sums at once; for two otherwise.
pub(crate) const fn is_roomy<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32
}

/// Whether a multiply-add is one instruction. Where it is not, [`f32::mul_add`] is a call into a library.
pub(crate) const fn has_fma<S: Simd>() -> bool {
    cfg!(target_arch = "aarch64") || size_of::<S::f32s>() > 16
}

/// One register of f32.
#[derive(Clone, Copy)]
pub(crate) struct F32s<S: Simd> {
    simd: S,
    lanes: S::f32s,
}

impl<S: Simd> F32s<S> {
    /// f32 per register.
    pub const N: usize = S::F32_LANES;

    #[inline(always)]
    pub fn splat(simd: S, value: f32) -> Self {
        Self { simd, lanes: simd.splat_f32s(value) }
    }

    /// # Safety
    /// `from` must be readable for `N` f32.
    #[inline(always)]
    pub unsafe fn load(simd: S, from: *const f32) -> Self {
        // SAFETY: readable by this function's contract; no alignment is assumed.
        Self { simd, lanes: unsafe { from.cast::<S::f32s>().read_unaligned() } }
    }

    /// # Safety
    /// `to` must be writable for `N` f32.
    #[inline(always)]
    pub unsafe fn store(self, to: *mut f32) {
        // SAFETY: writable by this function's contract; no alignment is assumed.
        unsafe { to.cast::<S::f32s>().write_unaligned(self.lanes) }
    }

    #[inline(always)]
    pub fn sub(self, other: Self) -> Self {
        Self { lanes: self.simd.sub_f32s(self.lanes, other.lanes), ..self }
    }

    #[inline(always)]
    pub fn min(self, other: Self) -> Self {
        Self { lanes: self.simd.min_f32s(self.lanes, other.lanes), ..self }
    }

    #[inline(always)]
    pub fn max(self, other: Self) -> Self {
        Self { lanes: self.simd.max_f32s(self.lanes, other.lanes), ..self }
    }

    /// `self * factor + summand`, with one rounding where the CPU has FMA.
    #[inline(always)]
    pub fn mul_add(self, factor: Self, summand: Self) -> Self {
        Self { lanes: self.simd.mul_add_e_f32s(self.lanes, factor.lanes, summand.lanes), ..self }
    }

    /// Per lane: `yes` where `a > b`, else `no`.
    #[inline(always)]
    pub fn select_greater(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let greater = a.simd.greater_than_f32s(a.lanes, b.lanes);
        Self { lanes: a.simd.select_f32s(greater, yes.lanes, no.lanes), ..a }
    }
}

/// Prefetches a cache line where the target has an instruction for it. Any address is allowed.
#[inline(always)]
pub(crate) fn prefetch(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: SSE is part of every x86-64 target, and a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
