// One run of K-Means: the ensemble has one for each K, with clusters `first..first + k` of all.

struct Run {
    k: u32,
    first: u32,
    // 0 once it has settled; no pass does anything for it any more.
    live: u32,
    // Assignments made.
    iterations: u32,
}

