//! The dense maths and the preparation of frames, on the processor and on a graphics adapter.

mod cpu;
mod equal;
mod f16;
mod overlap;
mod prepare;
