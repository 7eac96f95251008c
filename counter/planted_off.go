//go:build !plantedbugs

package counter

// plantedBug names a bug on purpose, by which the crash tests prove that they
// would find it. Other builds don't have it: a constant, so no code is left.
const plantedBug = ""
