package segment

import (
	"unsafe"

	"github.com/ottlaio/ottla/internal/storage/disk"
)

// writeBuffer returns a buffer of writeBytes for direct writes.
func (c *FileCache) writeBuffer(align int) []byte {
	if b, ok := c.writePool.Get().(*[writeBytes]byte); ok && uintptr(unsafe.Pointer(b))%uintptr(align) == 0 {
		return b[:]
	}
	return disk.AlignedBuffer(writeBytes, max(align, minAlignment))
}

func (c *FileCache) recycleWrite(b []byte) { c.writePool.Put((*[writeBytes]byte)(b)) }

// blockBuffer returns a buffer of BlockSize bytes, aligned for direct reads.
func (c *FileCache) blockBuffer() []byte {
	if b, ok := c.blockPool.Get().(*[BlockSize]byte); ok {
		return b[:]
	}
	return disk.AlignedBuffer(BlockSize, minAlignment)
}

// recycleBlock takes a buffer back; nil is none.
func (c *FileCache) recycleBlock(b []byte) {
	if b != nil {
		c.blockPool.Put((*[BlockSize]byte)(b[:BlockSize]))
	}
}
