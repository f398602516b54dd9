// Package artifact stands in for the library of its name, in which Flux's controllers keep what they have fetched and
// from which they serve it: not every module proxy has that library, and source-controller does not build without it.
//
// It has what source-controller calls. What a GitRepository needs works: an archive with a digest is written whole or not
// at all, served under the path that its status names, and removed once another has taken its place. What only the other
// kinds of sources need says that it is not here. Nothing in it was taken from the library.
package artifact
