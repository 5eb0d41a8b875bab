//! Reading and writing of bodies field by field, so that a field cannot be written and not read, or at another place.
//!
//! A body names its fields once ([`fields!`]); each field's type says how it stands in the record ([`Field`]). The layout comes from
//! the twin of the C structure, so that names and types are held against the header by the BTF test.

use super::{
    Text,
    decode::{BodyBytes, RecordError},
    writer::{RecordWriter, RecordWriterError},
};

/// A body of a record.
pub(super) trait Act<'a>: Sized {
    /// Bytes of the C structure.
    const SIZE: usize;
    /// Reads it; `b` has at least [`Self::SIZE`] bytes of body.
    fn read(b: BodyBytes<'a>) -> Result<Self, RecordError>;
    /// Writes it at `body`, where zeros stand, of the record that begins at `start`.
    fn write(&self, w: &mut RecordWriter, start: usize, body: usize) -> Result<(), RecordWriterError>;
}

/// A field of a body.
pub(super) trait Field<'a>: Sized {
    /// Reads it at `at` bytes from the body's first.
    fn read(b: BodyBytes<'a>, at: usize, name: &'static str) -> Result<Self, RecordError>;
    /// Writes it at `at` bytes from the buffer's first.
    fn write(&self, w: &mut RecordWriter, start: usize, at: usize, name: &'static str)
    -> Result<(), RecordWriterError>;
}

macro_rules! numbers {
    ($($type:ty),+) => {
        $(impl Field<'_> for $type {
            fn read(b: BodyBytes<'_>, at: usize, _: &'static str) -> Result<Self, RecordError> {
                Ok(Self::from_ne_bytes(b.fields.array(at)))
            }
            fn write(&self, w: &mut RecordWriter, _: usize, at: usize, _: &'static str) -> Result<(), RecordWriterError> {
                w.put(at, self.to_ne_bytes());
                Ok(())
            }
        })+
    };
}
numbers!(u16, u32, u64, i32, i64);

impl Field<'_> for u8 {
    fn read(b: BodyBytes<'_>, at: usize, _: &'static str) -> Result<Self, RecordError> {
        Ok(b.fields.u8(at))
    }
    fn write(&self, w: &mut RecordWriter, _: usize, at: usize, _: &'static str) -> Result<(), RecordWriterError> {
        w.put(at, [*self]);
        Ok(())
    }
}

impl<const N: usize> Field<'_> for [u64; N] {
    fn read(b: BodyBytes<'_>, at: usize, _: &'static str) -> Result<Self, RecordError> {
        Ok(std::array::from_fn(|n| b.fields.u64(at + n * size_of::<u64>())))
    }
    fn write(&self, w: &mut RecordWriter, _: usize, at: usize, _: &'static str) -> Result<(), RecordWriterError> {
        for (n, word) in self.iter().enumerate() {
            w.put(at + n * size_of::<u64>(), word.to_ne_bytes());
        }
        Ok(())
    }
}

impl<'a> Field<'a> for Text<'a> {
    fn read(b: BodyBytes<'a>, at: usize, name: &'static str) -> Result<Self, RecordError> {
        b.text(name, at)
    }
    fn write(
        &self,
        w: &mut RecordWriter,
        start: usize,
        at: usize,
        name: &'static str,
    ) -> Result<(), RecordWriterError> {
        w.text(start, at, name, self)
    }
}

/// Implements [`Field`] for enums of the header: a number without a meaning is refused.
macro_rules! coded_fields {
    ($($type:ident: $repr:ty),+ $(,)?) => {
        $(impl Field<'_> for $type {
            fn read(b: BodyBytes<'_>, at: usize, field: &'static str) -> Result<Self, RecordError> {
                let code = <$repr as Field<'_>>::read(b, at, field)?;
                Self::from_code(code).ok_or(RecordError::Field { field, value: u64::from(code) })
            }
            fn write(&self, w: &mut RecordWriter, start: usize, at: usize, field: &'static str) -> Result<(), RecordWriterError> {
                self.code().write(w, start, at, field)
            }
        })+
    };
}
pub(super) use coded_fields;

/// Implements [`Act`] for a body whose fields are those of its twin, by name.
macro_rules! fields {
    ($type:ident $(<$life:lifetime>)?, $raw:ident, [$($field:ident),+ $(,)?]) => {
        impl<'b $(, $life)?> Act<'b> for $type $(<$life>)? $(where 'b: $life, $life: 'b)? {
            const SIZE: usize = size_of::<$raw>();
            fn read(b: BodyBytes<'b>) -> Result<Self, RecordError> {
                Ok(Self { $($field: Field::read(b, offset_of!($raw, $field), stringify!($field))?),+ })
            }
            fn write(&self, w: &mut RecordWriter, start: usize, body: usize) -> Result<(), RecordWriterError> {
                $(self.$field.write(w, start, body + offset_of!($raw, $field), stringify!($field))?;)+
                Ok(())
            }
        }
    };
}
pub(super) use fields;

/// Reads a byte of flags of which only `known` have a meaning.
pub(super) fn flags(field: &'static str, value: u64, known: u64) -> Result<u64, RecordError> {
    if value & !known == 0 { Ok(value) } else { Err(RecordError::Field { field, value }) }
}
