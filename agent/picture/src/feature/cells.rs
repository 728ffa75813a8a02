//! The picture in a few hundred numbers: thumbnail, hash grid and tiles.
//!
//! Cells are whole pixels with boundaries at ⌊c·size/cells⌋, so that no interpolation enters and a row can be added as it arrives.

use super::registration::{Codes, codes};
use crate::frame::{BlockRow, MAX_SIDE, PictureSize};

/// Cells of the thumbnail, across and down.
pub(super) const THUMBNAIL: (usize, usize) = (32, 18);
/// Cells of the fine grid, across and down: four to a cell of the thumbnail.
pub(super) const FINE: (usize, usize) = (64, 36);
/// Cells of the hash grid: one bit for each horizontal neighbourhood, 16x16.
pub(super) const HASH: (usize, usize) = (17, 16);
/// Tiles, across and down.
pub(super) const TILES: (usize, usize) = (16, 9);

const _: () =
    assert!(THUMBNAIL.0 == 2 * TILES.0 && THUMBNAIL.1 == 2 * TILES.1, "a tile is four cells of the thumbnail");
const _: () = assert!(FINE.0 == 2 * THUMBNAIL.0 && FINE.1 == 2 * THUMBNAIL.1, "and each of them four of the fine grid");

/// A tile is dark where its mean luma is below 24 and its standard deviation below 6.
const DARK_MEAN: u64 = 24;
const DARK_STD: u64 = 6;
/// Fractional bits of the mean detail of a tile.
const DETAIL_BITS: u32 = 4;

/// Mean luma of the fine grid's cells, Q8.8.
pub(super) type FineGrid = [[u16; FINE.0]; FINE.1];
/// Mean luma of the thumbnail's cells, Q8.8.
pub(super) type Thumbnail = [[u16; THUMBNAIL.0]; THUMBNAIL.1];
/// Mean luma of the hash grid's cells, Q8.8.
pub(super) type HashGrid = [[u16; HASH.0]; HASH.1];
/// Mean sum of coefficients 6..=63 over the blocks of each tile, Q28.4.
pub(super) type Detail = [[u32; TILES.0]; TILES.1];

/// What is kept of a frame for a comparison with the reference. Absent for pictures below 128x72 pixels, whose cells would be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) thumbnail: Thumbnail,
    pub(super) hash: HashGrid,
    pub(super) detail: Detail,
}

/// Most items in a row: pixels at a quarter of the scale.
const WIDEST: usize = MAX_SIDE as usize / 4;

/// Sums over the cells of one grid, filled row by row.
#[derive(Clone, Debug)]
struct Grid<const W: usize, const H: usize> {
    width: usize,
    height: usize,
    rows: usize,
    cell_row: usize,
    sums: [[u32; W]; H],
    /// Sums down the columns since the current row of cells began: adding whole rows is what vector instructions are for.
    columns: [u32; WIDEST],
}

impl<const W: usize, const H: usize> Grid<W, H> {
    const fn new(width: usize, height: usize) -> Self {
        let mut grid = Self { width, height, rows: 0, cell_row: 0, sums: [[0; W]; H], columns: [0; WIDEST] };
        grid.skip_full_rows();
        grid
    }

    /// On to the row of cells that the next row of items belongs to; in a small picture some have none.
    const fn skip_full_rows(&mut self) {
        while self.cell_row < H && self.rows >= (self.cell_row + 1) * self.height / H {
            self.cell_row += 1;
        }
    }

    /// Adds one row of `width` items; rows beyond the last are ignored.
    fn add<T: Copy>(&mut self, items: &[T], value: impl Fn(T) -> u32) {
        for (column, &item) in self.columns.iter_mut().zip(items) {
            *column += value(item);
        }
        self.rows += 1;
        if self.cell_row < H && self.rows >= (self.cell_row + 1) * self.height / H {
            self.close_row();
            self.skip_full_rows();
        }
    }

    fn close_row(&mut self) {
        let Some(sums) = self.sums.get_mut(self.cell_row) else { return };
        for (cell, sum) in sums.iter_mut().enumerate() {
            let span = cell * self.width / W..(cell + 1) * self.width / W;
            *sum = self.columns.get(span).unwrap_or_default().iter().sum();
        }
        if let Some(used) = self.columns.get_mut(..self.width) {
            used.fill(0);
        }
    }

    const fn count(&self, x: usize, y: usize) -> u64 {
        let wide = (x + 1) * self.width / W - x * self.width / W;
        let high = (y + 1) * self.height / H - y * self.height / H;
        (wide * high) as u64
    }

    /// Means of all cells with `bits` fractional bits, as numbers that fit the target.
    fn means<N: TryFrom<u64> + Copy + Default>(&self, bits: u32) -> [[N; W]; H] {
        let mut means = [[N::default(); W]; H];
        for (y, (row, sums)) in means.iter_mut().zip(&self.sums).enumerate() {
            for (x, (mean, &sum)) in row.iter_mut().zip(sums).enumerate() {
                let value = (u64::from(sum) << bits) / self.count(x, y).max(1);
                *mean = N::try_from(value).unwrap_or_default();
            }
        }
        means
    }
}

/// Accumulates [`Cells`] and the dark tiles.
#[derive(Clone, Debug)]
pub(super) struct CellSums {
    fine: Grid<{ FINE.0 }, { FINE.1 }>,
    hash: Grid<{ HASH.0 }, { HASH.1 }>,
    squares: Grid<{ TILES.0 }, { TILES.1 }>,
    detail: Grid<{ TILES.0 }, { TILES.1 }>,
}

impl CellSums {
    /// `None` for a picture too small to have a pixel in every cell.
    pub(super) const fn new(size: PictureSize) -> Option<Self> {
        let (wide, high) = (size.blocks_wide() as usize, size.blocks_high() as usize);
        if wide < TILES.0 || high < TILES.1 {
            return None;
        }
        Some(Self {
            fine: Grid::new(2 * wide, 2 * high),
            hash: Grid::new(2 * wide, 2 * high),
            squares: Grid::new(2 * wide, 2 * high),
            detail: Grid::new(wide, high),
        })
    }

    pub(super) fn add(&mut self, row: &BlockRow<'_>) {
        for pixels in row.luma() {
            self.fine.add(pixels, u32::from);
            self.hash.add(pixels, u32::from);
            self.squares.add(pixels, |pixel| u32::from(pixel) * u32::from(pixel));
        }
        self.detail.add(row.blocks(), |block| u32::from(block.middle) + u32::from(block.high));
    }

    pub(super) fn finish(&self) -> Cells {
        Cells { thumbnail: self.thumbnail().means(8), hash: self.hash.means(8), detail: self.detail.means(DETAIL_BITS) }
    }

    /// `None` for pictures below 256x144 pixels, whose fine cells would be empty.
    pub(super) fn codes(&self) -> Option<Codes> {
        let full = self.fine.width >= FINE.0 && self.fine.height >= FINE.1;
        full.then(|| codes(&self.fine.means(8)))
    }

    /// A cell of the thumbnail is four of the fine grid: ⌊c·size/32⌋ is ⌊2c·size/64⌋.
    fn thumbnail(&self) -> Grid<{ THUMBNAIL.0 }, { THUMBNAIL.1 }> {
        let fine = &self.fine;
        let sum = |y: usize, x: usize| fine.sums[2 * y..2 * y + 2].iter().flat_map(|row| &row[2 * x..2 * x + 2]).sum();
        let sums = core::array::from_fn(|y| core::array::from_fn(|x| sum(y, x)));
        Grid { sums, ..Grid::new(fine.width, fine.height) }
    }

    /// How many tiles are dark and without texture, and of how many.
    pub(super) fn dark_tiles(&self) -> (u64, u64) {
        let mut dark = 0;
        for y in 0..TILES.1 {
            for x in 0..TILES.0 {
                let count = self.squares.count(x, y);
                // A tile is sixteen cells of the fine grid: ⌊c·size/16⌋ is ⌊4c·size/64⌋.
                let cells = self.fine.sums[4 * y..4 * y + 4].iter().flat_map(|row| &row[4 * x..4 * x + 4]);
                let (sum, squares) =
                    (cells.map(|&sum| u64::from(sum)).sum::<u64>(), u64::from(self.squares.sums[y][x]));
                let variance = count * squares - sum * sum;
                dark += u64::from(sum < DARK_MEAN * count && variance < DARK_STD * DARK_STD * count * count);
            }
        }
        (dark, (TILES.0 * TILES.1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_belongs_to_exactly_one_cell_also_where_sizes_do_not_divide() {
        let mut grid = Grid::<3, 2>::new(7, 5);
        for _ in 0..5 {
            grid.add(&[1_u8; 7], u32::from);
        }
        let counted: u32 = grid.sums.iter().flatten().sum();
        assert_eq!(counted, 35);
        assert_eq!(grid.sums, [[4, 4, 6], [6, 6, 9]]);
        assert_eq!(grid.means::<u16>(8), [[256; 3]; 2]);
    }

    #[test]
    fn rows_beyond_the_last_are_ignored() {
        let mut grid = Grid::<1, 1>::new(1, 1);
        grid.add(&[3_u8], u32::from);
        grid.add(&[9_u8], u32::from);
        assert_eq!(grid.sums, [[3]]);
    }

    #[test]
    fn the_brightest_largest_picture_does_not_overflow_a_cell() {
        let tile =
            u64::from(crate::frame::MAX_SIDE / 4).div_ceil(9) * u64::from(crate::frame::MAX_SIDE / 4).div_ceil(16);
        assert!(tile * 255 * 255 <= u64::from(u32::MAX));
    }
}
