package record

import (
	"encoding/binary"
	"hash/crc32"
)

// combineBytes is the size from which it is cheaper to combine checksums than to compute one.
const combineBytes = 16 << 10

// WholeCRC returns the CRC32C of the whole of a batch, offsets and epoch as they stand in it now. For a large batch it is made of the
// batch's own checksum, which covers all but those: so it is wrong for one whose checksum is, as a check of the bytes should be.
func WholeCRC(batch []byte) uint32 {
	if len(batch) < combineBytes {
		return crc32.Checksum(batch, castagnoli)
	}
	own := binary.BigEndian.Uint32(batch[posCRC:])
	return combine(crc32.Checksum(batch[:posAttributes], castagnoli), own, len(batch)-posAttributes)
}

// combine returns the CRC32C of a text of two parts, from those of the parts and the length of the second: appending n bytes to the
// first part multiplies its checksum, as a polynomial over GF(2), by x^8n.
func combine(first, second uint32, n int) uint32 {
	for k := 3; n > 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			first = multiply(powers[k], first)
		}
	}
	return first ^ second
}

// powers holds x^(2^k) modulo the polynomial of CRC32C, k up to 63.
var powers = func() (p [64]uint32) {
	p[0] = 1 << 30 // x: the highest bit is the lowest power
	for k := 1; k < len(p); k++ {
		p[k] = multiply(p[k-1], p[k-1])
	}
	return p
}()

// multiply returns a times b modulo the polynomial.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}
