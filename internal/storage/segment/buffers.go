package segment

import (
	"unsafe"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// writeBuffer returns a buffer of writeBytes for direct writes.
func (c *FileCache) writeBuffer(align int) []byte {
	if b, ok := c.write.Get().(*[writeBytes]byte); ok && uintptr(unsafe.Pointer(b))%uintptr(align) == 0 {
		return b[:]
	}
	return disk.AlignedBuffer(writeBytes, max(align, minAlignment))
}

// blockBuffer returns a buffer of BlockSize bytes for direct reads.
func (c *FileCache) blockBuffer() []byte {
	if b, ok := c.block.Get().(*[BlockSize]byte); ok {
		return b[:]
	}
	return disk.AlignedBuffer(BlockSize, minAlignment)
}

// recycle takes back a buffer that one of these returned.
func (c *FileCache) recycle(b []byte) {
	if cap(b) == writeBytes {
		c.write.Put((*[writeBytes]byte)(b[:writeBytes]))
		return
	}
	c.block.Put((*[BlockSize]byte)(b[:BlockSize]))
}
