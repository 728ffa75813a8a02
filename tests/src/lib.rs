//! Nothing but a home for `tests/whole`: the product tested as it is shipped, program against program.
