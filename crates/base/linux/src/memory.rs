//! glibc's allocator, kept small (few arenas, and free pages given back), behind a small stock of its own per thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;

/// Lets all threads share `count` arenas. Before the first thread is started.
pub fn limit_arenas(count: i32) {
    // SAFETY: mallopt takes two integers and touches only the allocator's own settings.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, count) };
}

/// Gives free memory back to the kernel. Walks the heap.
pub fn trim() {
    // SAFETY: malloc_trim locks the arenas itself and may be called at any time from any thread.
    unsafe { libc::malloc_trim(0) };
}

/// glibc's allocator with a stock of small blocks for each thread, without locks.
///
/// A request's object is a tree of some hundred small blocks. glibc's own stock takes seven of a size and no more, so that
/// most of them went to its arenas, which two threads share here: a quarter of what a write cost.
///
/// A thread that ends must [`Stocked::give_back`] its stock, else it is lost.
pub struct Stocked;

/// Sizes are rounded up to this, which is also how far blocks are aligned.
const GRAIN: usize = 16;
/// Larger blocks come from glibc.
const LARGEST: usize = 1024;
const SIZES: usize = LARGEST / GRAIN;
/// How much of a size a thread holds: sixty-four times this is the most it holds at all.
const STOCK_BYTES: usize = 16 << 10;

/// Free blocks of one size; each begins with the address of the next.
struct Stock {
    first: Cell<*mut u8>,
    count: Cell<usize>,
}

thread_local! {
    /// Without a destructor: registering one may allocate.
    static STOCKS: [Stock; SIZES] = const {
        [const {
            Stock {
                first: Cell::new(ptr::null_mut()),
                count: Cell::new(0),
            }
        }; SIZES]
    };
}

#[allow(clippy::cast_ptr_alignment, reason = "blocks are aligned to sixteen bytes")]
impl Stock {
    fn take(&self) -> Option<*mut u8> {
        let first = self.first.get();
        if first.is_null() {
            return None;
        }
        // SAFETY: a block in stock is free, at least 16 bytes long and aligned, and begins with what `put` wrote.
        self.first.set(unsafe { first.cast::<*mut u8>().read() });
        self.count.set(self.count.get() - 1);
        Some(first)
    }

    /// False if there is enough in stock.
    ///
    /// # Safety
    /// `block` is free, of the stock's size, and nobody else has it.
    unsafe fn put(&self, block: *mut u8, size: usize) -> bool {
        if self.count.get() * size >= STOCK_BYTES {
            return false;
        }
        // SAFETY: the caller gives the block up; it is long enough and aligned for an address.
        unsafe { block.cast::<*mut u8>().write(self.first.get()) };
        self.first.set(block);
        self.count.set(self.count.get() + 1);
        true
    }
}

impl Stocked {
    /// Frees what this thread has in stock; it may go on and gather a new one.
    pub fn give_back() {
        STOCKS.with(|stocks| {
            for (index, stock) in stocks.iter().enumerate() {
                while let Some(block) = stock.take() {
                    // SAFETY: what is in stock came from `System` with this layout.
                    unsafe { System.dealloc(block, layout_of(index)) };
                }
            }
        });
    }

    /// Where blocks of this layout are in stock, if such are.
    fn index(layout: Layout) -> Option<usize> {
        let size = layout.size();
        (size <= LARGEST && size > 0 && layout.align() <= GRAIN).then(|| (size - 1) / GRAIN)
    }
}

/// Of all blocks of a stock.
fn layout_of(index: usize) -> Layout {
    let size = (index + 1) * GRAIN;
    Layout::from_size_align(size, GRAIN).expect("sixteen is a power of two, and the size is small")
}

// SAFETY: every block comes from `System`, with at least the size and alignment asked for, and is in one stock or in use,
// never both. `System` frees and resizes by the address alone (it is glibc's malloc for alignments up to 16), so that it
// does not matter that a stocked block was allocated somewhat larger than its user knows.
unsafe impl GlobalAlloc for Stocked {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::index(layout) {
            Some(index) => match STOCKS.with(|stocks| stocks[index].take()) {
                Some(block) => block,
                // SAFETY: the size is not zero.
                None => unsafe { System.alloc(layout_of(index)) },
            },
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if Self::index(layout).is_none() {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: the caller's promise; what is not null is at least so long.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(index) = Self::index(layout) {
            // SAFETY: the caller gives up a block that `alloc` made for this index.
            if STOCKS.with(|stocks| unsafe { stocks[index].put(block, (index + 1) * GRAIN) }) {
                return;
            }
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let to = Layout::from_size_align(new_size, layout.align())
            .ok()
            .and_then(Self::index);
        let (from, to) = match (Self::index(layout), to) {
            (Some(from), Some(to)) => (from, to),
            // Into a stock it may come later, so it has the size of those there.
            // SAFETY: the caller's promise; more than he asks for is no harm.
            (None, Some(to)) => return unsafe { System.realloc(block, layout, (to + 1) * GRAIN) },
            // SAFETY: the caller's promise.
            (_, None) => return unsafe { System.realloc(block, layout, new_size) },
        };
        if from == to {
            return block;
        }
        // SAFETY: both blocks are at least so long, and the new one is nobody else's.
        unsafe {
            let new = self.alloc(layout_of(to));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block in use, filled with its mark.
    struct Held {
        block: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Held {
        fn new(layout: Layout, mark: u8, zeroed: bool) -> Self {
            // SAFETY: no size here is zero.
            let block = unsafe {
                if zeroed {
                    Stocked.alloc_zeroed(layout)
                } else {
                    Stocked.alloc(layout)
                }
            };
            assert_eq!(block as usize % layout.align(), 0);
            let held = Self { block, layout, mark };
            assert!(!zeroed || held.bytes().iter().all(|byte| *byte == 0));
            held.fill();
            held
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: it is in use, and as long as its layout says.
            unsafe { std::slice::from_raw_parts(self.block, self.layout.size()) }
        }

        fn fill(&self) {
            // SAFETY: as above.
            unsafe { self.block.write_bytes(self.mark, self.layout.size()) };
        }

        fn resize(&mut self, size: usize) {
            // SAFETY: the layout is the block's.
            self.block = unsafe { Stocked.realloc(self.block, self.layout, size) };
            let kept = self.layout.size().min(size);
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            assert!(self.bytes()[..kept].iter().all(|byte| *byte == self.mark));
            self.fill();
        }

        fn free(self) {
            assert!(self.bytes().iter().all(|byte| *byte == self.mark));
            // SAFETY: it is not used again.
            unsafe { Stocked.dealloc(self.block, self.layout) };
        }
    }

    #[test]
    fn blocks_in_use_are_nobody_elses() {
        let mut state: u64 = 7;
        let mut roll = |sides: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % sides
        };
        let mut held: Vec<Held> = Vec::new();
        for step in 0..200_000 {
            let size = 1 + if roll(8) == 0 { roll(5000) } else { roll(300) };
            match roll(5) {
                0 | 1 if held.len() < 3_000 => {
                    let layout = Layout::from_size_align(size, 1 << roll(7)).unwrap();
                    held.push(Held::new(layout, step as u8, roll(4) == 0));
                }
                2 if !held.is_empty() => {
                    let index = roll(held.len());
                    held[index].resize(size);
                }
                _ if !held.is_empty() => held.swap_remove(roll(held.len())).free(),
                _ => {}
            }
        }
        held.into_iter().for_each(Held::free);
        Stocked::give_back();
        STOCKS.with(|stocks| assert!(stocks.iter().all(|stock| stock.count.get() == 0)));
    }

    #[test]
    fn a_thread_holds_no_more_of_a_size_than_it_may() {
        let layout = Layout::from_size_align(64, 8).unwrap();
        let held: Vec<_> = (0..1_000)
            .map(|mark| Held::new(layout, mark as u8, false))
            .collect();
        held.into_iter().for_each(Held::free);
        let count = STOCKS.with(|stocks| stocks[3].count.get());
        assert_eq!(count, STOCK_BYTES / 64);
        Stocked::give_back();
    }
}
