//! speed
#![allow(clippy::all, clippy::print_stdout, clippy::unwrap_used, reason = "x")]
use fingerprint_core::decode::*;
use std::ops::ControlFlow;
use std::time::Instant;
fn main() {
    for a in std::env::args().skip(1) {
        let p = std::path::Path::new(&a);
        let mut best = f64::MAX;
        let mut s = None;
        for _ in 0..std::env::var("N").map_or(3, |n| n.parse().unwrap()) {
            let t = Instant::now();
            let r = decode(Input::Path(p), &DecodeOptions::default(), &mut |c, _| {
                std::hint::black_box(c);
                ControlFlow::Continue(())
            });
            best = best.min(t.elapsed().as_secs_f64());
            s = Some(r);
        }
        match s.unwrap() {
            Ok(s) => println!(
                "{:<16} {:>7.0} x  {} {} {}Hz {}ch {:.1}s bad={} ffmpeg={}",
                p.file_name().unwrap().to_string_lossy(),
                s.duration_s / best,
                s.container,
                s.codec,
                s.sample_rate_hz,
                s.channel_count,
                s.duration_s,
                s.bad_packet_count,
                s.by_ffmpeg
            ),
            Err(e) => println!("{e}"),
        }
    }
    let st = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", st.lines().find(|l| l.starts_with("VmHWM")).unwrap());
}
