#include "textflag.h"

// The instructions want the digest in two registers, the words A, B, E, F in one and C, D, G, H in the
// other. Of the first content these are X1 and X2, and X3 to X6 are the last sixteen words of its
// message; of the second, X9 and X10, and X11 to X14. X0 is what SHA256RNDS2 takes beside its operands.

// LOAD reads a digest.
#define LOAD(from, abef, cdgh) \
	MOVOU   0(from), abef; \
	MOVOU   16(from), cdgh; \
	PSHUFD  $0xb1, abef, abef; \
	PSHUFD  $0x1b, cdgh, cdgh; \
	MOVO    abef, X0; \
	PALIGNR $8, cdgh, abef; \
	PBLENDW $0xf0, X0, cdgh

// STORE writes what LOAD has read.
#define STORE(to, abef, cdgh) \
	PSHUFD  $0x1b, abef, abef; \
	PSHUFD  $0xb1, cdgh, cdgh; \
	MOVO    abef, X0; \
	PBLENDW $0xf0, cdgh, abef; \
	PALIGNR $8, X0, cdgh; \
	MOVOU   abef, 0(to); \
	MOVOU   cdgh, 16(to)

// MESSAGE reads a block. The bytes of its words are in the other order.
#define MESSAGE(from, w0, w1, w2, w3) \
	MOVOU  0(from), w0; \
	MOVOU  16(from), w1; \
	MOVOU  32(from), w2; \
	MOVOU  48(from), w3; \
	PSHUFB X8, w0; \
	PSHUFB X8, w1; \
	PSHUFB X8, w2; \
	PSHUFB X8, w3

// ROUNDS does the rounds 4i to 4i+3 of both: the second while the first waits for its results.
#define ROUNDS(i, v, w) \
	MOVOU       (i*16)(AX), X0; \
	PADDD       v, X0; \
	SHA256RNDS2 X0, X1, X2; \
	PSHUFD      $0x0e, X0, X0; \
	SHA256RNDS2 X0, X2, X1; \
	MOVOU       (i*16)(AX), X0; \
	PADDD       w, X0; \
	SHA256RNDS2 X0, X9, X10; \
	PSHUFD      $0x0e, X0, X0; \
	SHA256RNDS2 X0, X10, X9

// EXTEND makes the next four words of a message from the last sixteen, in place of the oldest, w0.
#define EXTEND(w0, w1, w2, w3, t) \
	SHA256MSG1 w1, w0; \
	MOVO       w3, t; \
	PALIGNR    $4, w2, t; \
	PADDD      t, w0; \
	SHA256MSG2 w3, w0

// func blocks(a, b *[8]uint32, p, q *byte, n int)
TEXT ·blocks(SB), NOSPLIT, $64-40
	MOVQ  a+0(FP), DI
	MOVQ  b+8(FP), R8
	MOVQ  p+16(FP), SI
	MOVQ  q+24(FP), R9
	MOVQ  n+32(FP), DX
	LEAQ  ·constants(SB), AX
	MOVOU flip<>(SB), X8
	LOAD(DI, X1, X2)
	LOAD(R8, X9, X10)

next:
	MOVOU X1, 0(SP)
	MOVOU X2, 16(SP)
	MOVOU X9, 32(SP)
	MOVOU X10, 48(SP)
	MESSAGE(SI, X3, X4, X5, X6)
	MESSAGE(R9, X11, X12, X13, X14)

	ROUNDS(0, X3, X11)
	ROUNDS(1, X4, X12)
	ROUNDS(2, X5, X13)
	ROUNDS(3, X6, X14)
	EXTEND(X3, X4, X5, X6, X7)
	EXTEND(X11, X12, X13, X14, X15)
	ROUNDS(4, X3, X11)
	EXTEND(X4, X5, X6, X3, X7)
	EXTEND(X12, X13, X14, X11, X15)
	ROUNDS(5, X4, X12)
	EXTEND(X5, X6, X3, X4, X7)
	EXTEND(X13, X14, X11, X12, X15)
	ROUNDS(6, X5, X13)
	EXTEND(X6, X3, X4, X5, X7)
	EXTEND(X14, X11, X12, X13, X15)
	ROUNDS(7, X6, X14)
	EXTEND(X3, X4, X5, X6, X7)
	EXTEND(X11, X12, X13, X14, X15)
	ROUNDS(8, X3, X11)
	EXTEND(X4, X5, X6, X3, X7)
	EXTEND(X12, X13, X14, X11, X15)
	ROUNDS(9, X4, X12)
	EXTEND(X5, X6, X3, X4, X7)
	EXTEND(X13, X14, X11, X12, X15)
	ROUNDS(10, X5, X13)
	EXTEND(X6, X3, X4, X5, X7)
	EXTEND(X14, X11, X12, X13, X15)
	ROUNDS(11, X6, X14)
	EXTEND(X3, X4, X5, X6, X7)
	EXTEND(X11, X12, X13, X14, X15)
	ROUNDS(12, X3, X11)
	EXTEND(X4, X5, X6, X3, X7)
	EXTEND(X12, X13, X14, X11, X15)
	ROUNDS(13, X4, X12)
	EXTEND(X5, X6, X3, X4, X7)
	EXTEND(X13, X14, X11, X12, X15)
	ROUNDS(14, X5, X13)
	EXTEND(X6, X3, X4, X5, X7)
	EXTEND(X14, X11, X12, X13, X15)
	ROUNDS(15, X6, X14)

	MOVOU 0(SP), X3
	MOVOU 16(SP), X4
	MOVOU 32(SP), X11
	MOVOU 48(SP), X12
	PADDD X3, X1
	PADDD X4, X2
	PADDD X11, X9
	PADDD X12, X10
	ADDQ  $64, SI
	ADDQ  $64, R9
	DECQ  DX
	JNZ   next

	STORE(DI, X1, X2)
	STORE(R8, X9, X10)
	RET

DATA flip<>+0(SB)/8, $0x0405060700010203
DATA flip<>+8(SB)/8, $0x0c0d0e0f08090a0b
GLOBL flip<>(SB), RODATA|NOPTR, $16
