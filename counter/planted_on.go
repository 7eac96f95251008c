//go:build plantedbugs

package counter

import "os"

var plantedBug = os.Getenv("COUNTERD_PLANTED_BUG")
