//! Planning, healing and registering: by their rules over drawn histories, against losing commits
//! over random ones, and over repositories that the git command built.

mod drawn;
mod lossless;
mod real;
mod rules;
mod shown;
