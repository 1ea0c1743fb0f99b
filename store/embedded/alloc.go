package embedded

import "slices"

// allocClasses are the sizes of Go's allocator above 128 bytes (runtime/sizeclasses.go); below, they go by 8 up to
// 32 and then by 16.
var allocClasses = [...]uint16{
	144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352, 384, 416, 448, 480, 512, 576, 640, 704, 768, 896, 1024, 1152, 1280,
	1408, 1536, 1792, 2048, 2304, 2688, 3072, 3200, 3456, 4096, 4864, 5120, 5376, 6144, 6528, 6784, 6912, 8192, 9472, 9728, 10240,
	10880, 12288, 13568, 14336, 16384, 18432, 19072, 20480, 21760, 24576, 27264, 28672, 32768,
}

const (
	allocSmall = 32768
	allocPage  = 8192
	// A small object with pointers that is larger than this carries a header of its type.
	allocHeaderFrom = 512
	allocHeader     = 8
)

// allocated is what n bytes without pointers take.
func allocated(n int) int {
	switch {
	case n <= 32:
		return (n + 7) &^ 7
	case n <= 128:
		return (n + 15) &^ 15
	case n <= allocSmall:
		i, _ := slices.BinarySearch(allocClasses[:], uint16(n))
		return int(allocClasses[i])
	}
	return (n + allocPage - 1) &^ (allocPage - 1)
}

// allocatedPointers is what n bytes with pointers among them take.
func allocatedPointers(n int) int {
	if n > allocHeaderFrom && n <= allocSmall-allocHeader {
		n += allocHeader
	}
	return allocated(n)
}
