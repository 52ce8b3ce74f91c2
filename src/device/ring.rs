//! Reads under way, oldest first: begun without waiting, finished in order once the device has come to them.

use std::collections::VecDeque;

use super::readback::Pending;
use crate::error::Result;

/// What arrives by itself, and can be waited for.
pub trait Arriving {
    /// What arrives.
    type Found;

    /// Whether [`Arriving::wait`] would return at once.
    fn is_ready(&mut self) -> bool;

    /// What has arrived; waits for it where it has not.
    ///
    /// # Errors
    /// What the device reports.
    fn wait(self) -> Result<Self::Found>;
}

impl Arriving for Pending {
    type Found = Vec<Vec<u8>>;

    fn is_ready(&mut self) -> bool {
        Self::is_ready(self)
    }

    fn wait(self) -> Result<Self::Found> {
        Self::wait(self)
    }
}

/// A few reads under way, each with a note `T` of whoever began it. Only a full ring waits, and then for its oldest alone.
pub struct Ring<T, P: Arriving = Pending> {
    most: usize,
    under_way: VecDeque<(T, P)>,
    waits: u64,
}

impl<T, P: Arriving> Ring<T, P> {
    /// An empty ring for at most `most` reads at once.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { most, under_way: VecDeque::new(), waits: 0 }
    }

    /// Adds a read that has begun. Where that is one too many, the oldest is waited for and returned.
    ///
    /// # Errors
    /// What the device reports.
    pub fn push(&mut self, note: T, read: P) -> Result<Option<(T, P::Found)>> {
        self.under_way.push_back((note, read));
        if self.under_way.len() > self.most { self.oldest() } else { Ok(None) }
    }

    /// The oldest read, if it has arrived. One behind it that arrived earlier stays until its turn.
    ///
    /// # Errors
    /// What the device reports.
    pub fn arrived(&mut self) -> Result<Option<(T, P::Found)>> {
        if self.under_way.front_mut().is_some_and(|(_, read)| read.is_ready()) { self.oldest() } else { Ok(None) }
    }

    /// The oldest read, if there is one; waits for it where it has not arrived.
    ///
    /// # Errors
    /// What the device reports.
    pub fn oldest(&mut self) -> Result<Option<(T, P::Found)>> {
        let Some((note, mut read)) = self.under_way.pop_front() else { return Ok(None) };
        self.waits += u64::from(!read.is_ready());
        Ok(Some((note, read.wait()?)))
    }

    /// How often a read had not arrived when it was taken.
    #[must_use]
    pub const fn waits(&self) -> u64 {
        self.waits
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    /// Arrives when the clock has come to its time; waiting moves the clock there.
    struct At(u32, Rc<Cell<u32>>);

    impl Arriving for At {
        type Found = u32;

        fn is_ready(&mut self) -> bool {
            self.1.get() >= self.0
        }

        fn wait(self) -> Result<u32> {
            self.1.set(self.1.get().max(self.0));
            Ok(self.0)
        }
    }

    /// A read begins at 0, 1, 2 …, the i-th arrives `late[i]` later; what has arrived is taken at each moment.
    fn sequence(most: usize, late: &[u32]) -> (Vec<(usize, u32)>, u64, usize) {
        let clock = Rc::new(Cell::new(0));
        let mut ring = Ring::new(most);
        let (mut found, mut longest) = (Vec::new(), 0);
        for (i, late) in late.iter().enumerate() {
            clock.set(clock.get().max(i as u32));
            while let Some(one) = ring.arrived().unwrap() {
                found.push(one);
            }
            found.extend(ring.push(i, At(clock.get() + late, Rc::clone(&clock))).unwrap());
            longest = longest.max(ring.under_way.len());
        }
        let waits = ring.waits();
        while let Some(one) = ring.oldest().unwrap() {
            found.push(one);
        }
        (found, waits, longest)
    }

    #[test]
    fn only_a_full_ring_waits_and_everything_comes_in_order() {
        // Size of the ring, lateness of each read, forced waits before the end, most under way.
        let cases: [(usize, &[u32], u64, usize); 5] = [
            (3, &[0; 6], 0, 1),
            (3, &[3; 6], 0, 3),
            (1, &[3; 6], 5, 1),
            (2, &[9, 0, 0, 0, 0], 1, 2),
            (3, &[100, 1, 1], 0, 3),
        ];
        let mut wrong = Vec::new();
        for (most, late, waits, longest) in cases {
            let (found, waited, held) = sequence(most, late);
            let order: Vec<_> = found.iter().map(|(i, _)| *i).collect();
            if order != (0..late.len()).collect::<Vec<_>>() || (waited, held) != (waits, longest) {
                wrong.push(format!("{most} {late:?}: {found:?}, {waited} waits, {held} under way"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
