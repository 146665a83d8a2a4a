// Package apisurface contains no code. Its test compares the exported declarations of the
// public packages with the checked-in list api.txt, so that each change to the public surface
// is deliberate.
package apisurface
