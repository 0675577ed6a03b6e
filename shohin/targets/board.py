"""Cortex-M boards in QEMU: firmware around a network, run with inputs from the host, counted in instructions.

The firmware (folder ``firmware/``) reads ``inputs.bin`` by semihosting and writes ``outputs.bin`` and ``report.txt``,
so one build serves any inputs. Under ``-icount shift=0`` an instruction takes one virtual nanosecond, so a tick of
SysTick at f Hz is 1e9/f instructions: exact to one tick, and the same in every run. The count holds the call
itself (some 20 instructions). An inference of more than 2^24 ticks is interrupted by the counter's wrap, and the
frame of that interrupt (104 bytes) then shows in the painted stack, as an interrupt's would on any board.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shohin.core.errors import EmulatorMissing, TargetError
from shohin.targets.elf import Sections, sizes
from shohin.targets.source import Source, read_source, selfcheck_failed
from shohin.targets.target import RunResult, Target
from shohin.targets.toolchain import WARNINGS, atomic, call, link_alone, zig

FIRMWARE = Path(__file__).parent / "firmware"
EMULATOR = "qemu-system-arm"
STACK_BYTES = 32 * 1024
# What the harness itself needs of the RAM: its main stack (link.ld.in), guards, variables, alignment.
_HARNESS_RAM = 8192 + 2048
BARE = ("-O3", "-ffreestanding", "-nostdlib", "-fno-math-errno", "-fno-sanitize=undefined", "-ffp-contract=off")
"""``Target.cflags`` of a device without an operating system."""
_HARNESS_FLAGS = ("-O2", "-std=c11", *WARNINGS, "-Werror")
_DEVICE_FLAGS = ("-g0", "-ffunction-sections", "-fdata-sections", "-fno-unwind-tables",
                 "-fno-asynchronous-unwind-tables", "-isystem", str(FIRMWARE / "include"))
_NUMBER = r"0x[0-9a-f]+"
_LINES = {"board": 6, "selfcheck": 1, "run": 3, "step": 2, "stack": 1, "arena": 1, "end": 1, "fault": 4}
_EXCEPTIONS = {2: "NMI", 3: "HardFault", 4: "MemManage", 5: "BusFault", 6: "UsageFault", 7: "SecureFault"}


@dataclass(frozen=True, kw_only=True)
class QemuBoard:
    """The strategy of a board in QEMU: the machine's name and its SysTick clock in Hz."""

    machine: str
    clock_hz: int

    @property
    def instruction_step(self) -> float:
        """Instructions a tick."""
        return 1e9 / self.clock_hz

    def sections(self, target: Target, folder: Path) -> Sections:
        with tempfile.TemporaryDirectory(prefix="shohin-probe-") as work:
            return probe(target, read_source(folder), Path(work))

    def build(self, target: Target, folder: Path, out: Path) -> Firmware:
        return build_firmware(folder, out, target)

    def build_stepped(self, target: Target, folder: Path, out: Path) -> Firmware:
        """Firmware that reads its clock between the network's steps too: ``RunResult.steps``."""
        return build_firmware(folder, out, target, stepped=True)

    def run(self, program: Firmware, inputs: np.ndarray, timeout: float) -> RunResult:
        return run_firmware(program, inputs, timeout=timeout)


@dataclass(frozen=True, kw_only=True)
class Firmware:
    """A built firmware: the ELF file, what it was built from, and the bytes of the network alone."""

    elf: Path
    source: Source
    target: Target
    board: QemuBoard
    sections: Sections
    steps: int = 0


def probe(target: Target, source: Source, work: Path, more: tuple[str | Path, ...] = ()) -> Sections:
    """Bytes of the network alone on the device: ``NAME_run`` and what it reaches, without memcpy and memset.

    ``more`` are further flags. Leaves ``network.o`` in ``work``.
    """
    compiler = zig()
    network = work / "network.o"
    call([*compiler.command, *_flags(target), *_DEVICE_FLAGS, "-std=c11", *WARNINGS, "-I", source.folder, *more,
          "-c", source.folder / "network.c", "-o", network], doing=f"compiling {source.name} for {target.name}")
    return sizes(link_alone(network, source.name, work / "probe.elf"))


def build_firmware(artefact_dir: str | Path, out_dir: str | Path, target: Target, *,
                   stack_bytes: int = STACK_BYTES, stepped: bool = False) -> Firmware:
    """Compiles and links the network in ``artefact_dir`` with start-up code and harness into ``out_dir/NAME.elf``.

    Each need goes into the first memory of the target that holds it. ``stepped``: the clock is read between the steps, which
    costs some 40 instructions each. Raises ``TargetError`` where none does,
    ``BuildError`` where compiler or linker fail.
    """
    board = target.strategy
    if not isinstance(board, QemuBoard):
        raise TargetError(f"{target.name} is not an emulated board; firmware can be built for one only")
    source = read_source(artefact_dir)
    out = Path(out_dir).resolve()
    with tempfile.TemporaryDirectory(prefix="shohin-firmware-") as folder:
        work = Path(folder)
        steps = step_count(source) if stepped else 0
        clock = (f"-D{source.name}_STEP(number,place)=shohin_step(number)", "-include", FIRMWARE / "steps.h") if steps else ()
        sections = probe(target, source, work, clock)
        script = _linker_script(target, source, sections, stack_bytes, work / "link.ld")
        compiler = zig()
        objects = [work / "network.o"]
        for file in sorted(FIRMWARE.glob("*.c")):
            objects.append(work / f"{file.stem}.o")
            call([*compiler.command, *_flags(target), *_DEVICE_FLAGS, *_HARNESS_FLAGS,
                  *_file_flags(file.name, source, stack_bytes, steps), "-c", file, "-o", objects[-1]],
                 doing=f"compiling {file.name} for {target.name}")
        with atomic(out / f"{source.name}.elf") as elf:
            call([*compiler.linker, *objects, "--gc-sections", "-T", script, "-o", elf],
                 doing=f"linking the firmware of {source.name} for {target.name}")
    return Firmware(elf=out / f"{source.name}.elf", source=source, target=target, board=board, sections=sections, steps=steps)


def step_count(source: Source) -> int:
    """How many steps the network's C has."""
    text = (source.folder / "network.c").read_text(encoding="utf-8")
    return max((int(k) for k in re.findall(r"_STEP\((\d+),", text)), default=0)


def _flags(target: Target) -> tuple[str, ...]:
    return ("-target", target.triple, f"-mcpu={target.mcpu}", *target.cflags)


def _file_flags(file: str, source: Source, stack_bytes: int, steps: int) -> tuple[str, ...]:
    if file == "memory.c":
        return ("-fno-builtin",)  # a loop that is memcpy must not become a call of itself
    if file == "harness.c":  # the only one that knows the network: the compiler has the others in its cache
        return (f"-DSHOHIN_NAME={source.name}", f"-DSHOHIN_MACRO={source.macro}", f"-DSHOHIN_ELEMENT={source.element}",
                f"-DSHOHIN_STACK={stack_bytes}", f"-DSHOHIN_STEPS={steps}", *(["-DSHOHIN_STATE"] if source.state_bytes else []), "-I", str(source.folder))
    return ()


def _linker_script(target: Target, source: Source, sections: Sections, stack_bytes: int, path: Path) -> Path:
    boot = next(m for m in target.memories if m.kind == "flash")
    # Start-up code and harness lie in the boot memory: 16 KiB of it are kept for them.
    text = sections.text + sections.rodata
    flash = boot if text <= boot.size - 16384 else target.memory("flash", text, f"{source.name}'s code and constants")
    buffers = (source.input_size + source.output_size) * source.dtype.itemsize
    ram = target.memory("ram", source.arena_bytes + sections.ram + buffers + stack_bytes + _HARNESS_RAM,
                        f"{source.name} (arena {source.arena_bytes:,}, variables {sections.ram:,}, inputs and outputs "
                        f"{buffers:,}, stack {stack_bytes:,})")
    values = {"BOOT": f"{boot.address:#x}", "BOOT_SIZE": f"{boot.size:#x}",
              "FLASH_LINE": "" if flash is boot else
              f"flash (rx) : ORIGIN = {flash.address:#x}, LENGTH = {flash.size:#x}",
              "FLASH": "boot" if flash is boot else "flash",
              "RAM": f"{ram.address:#x}", "RAM_SIZE": f"{ram.size:#x}"}
    template = (FIRMWARE / "link.ld.in").read_text(encoding="utf-8")
    path.write_text(re.sub(r"@(\w+)@", lambda found: values[found[1]], template), encoding="utf-8")
    return path


def run_firmware(firmware: Firmware, inputs: np.ndarray, timeout: float = 300.0) -> RunResult:
    """Runs the firmware on each row of ``inputs`` (n, input_size); ``timeout`` in seconds of the host's time.

    Raises ``EmulatorMissing`` without QEMU, ``TargetError`` where the network fails, faults, leaves its arena,
    fails its self-check (docs/quantization.md Q11), or does not finish in time.
    """
    source, board = firmware.source, firmware.board
    x = source.inputs(inputs)
    program = shutil.which(EMULATOR)
    if program is None:
        raise EmulatorMissing(f"{firmware.target.name} runs in {EMULATOR}, which is not on the PATH. "
                              f"Run `make emulators`, or `apt-get install --no-install-recommends {EMULATOR}`")
    with tempfile.TemporaryDirectory(prefix="shohin-board-") as folder:
        work = Path(folder)
        x.tofile(work / "inputs.bin")
        command = [program, "-M", board.machine, "-display", "none", "-serial", "none", "-monitor", "none",
                   "-semihosting-config", "enable=on,target=native", "-icount", "shift=0",
                   "-kernel", str(firmware.elf)]
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, errors="replace",
                                  stdin=subprocess.DEVNULL, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            finished = len(re.findall(r"^run ", _read(work / "report.txt"), re.M))
            raise TargetError(f"{source.name} on {firmware.target.name}: {finished} of {len(x)} inputs done after "
                              f"{timeout:g} s; give fewer inputs or a longer timeout") from None
        report = _parse(firmware, _read(work / "report.txt"), done, len(x))
        outputs = np.fromfile(work / "outputs.bin", dtype=source.dtype)
    if outputs.size != len(x) * source.output_size:
        raise TargetError(f"{source.name} on {firmware.target.name}: {outputs.size} output elements, "
                          f"expected {len(x) * source.output_size}")
    return RunResult(
        outputs=outputs.reshape(len(x), source.output_size),
        instructions=tuple(round(ticks * board.instruction_step) for _, _, ticks in report["run"]),
        instruction_step=board.instruction_step, stack_bytes=report["stack"][0][0],
        arena_bytes=report["arena"][0][0], arena_size=source.arena_bytes, sections=firmware.sections, emulated=True,
        steps=tuple(round(ticks * board.instruction_step) for _, ticks in report["step"][: firmware.steps]))


def _read(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace") if path.exists() else ""


def _signed(word: int) -> int:
    return word - (word >> 31 << 32)


def _parse(firmware: Firmware, text: str, done: subprocess.CompletedProcess[str], count: int
           ) -> dict[str, list[tuple[int, ...]]]:
    """The report's lines by their first word; anything unexpected is an error that shows it."""
    source = firmware.source
    where = f"{source.name} on {firmware.target.name}"
    found: dict[str, list[tuple[int, ...]]] = {word: [] for word in _LINES}
    for line in text.splitlines():
        if line.startswith("fail "):
            raise TargetError(f"{where}: {line[5:]} (after {len(found['run'])} inferences)")
        word, *numbers = line.split(" ")
        if len(numbers) != _LINES.get(word, -1) or not all(re.fullmatch(_NUMBER, n) for n in numbers):
            raise TargetError(f"{where}: the report has a line that is not understood: {line!r}")
        found[word].append(tuple(int(n, 16) for n in numbers))
    if found["fault"]:
        number, cfsr, hfsr, pc = found["fault"][0]
        raise TargetError(f"{where}: {_EXCEPTIONS.get(number, f'exception {number}')} in inference {len(found['run'])} "
                          f"at pc {pc:#x} (CFSR {cfsr:#x}, HFSR {hfsr:#x}). A stack overflow ends so too: "
                          f"it had {found['board'][0][5] if found['board'] else 0:,} bytes")
    if found["selfcheck"] and found["selfcheck"][0][0] != 0:
        raise selfcheck_failed(where, source, _signed(found["selfcheck"][0][0]))
    for index, (_, status, _) in enumerate(found["run"]):
        if status:
            raise TargetError(f"{where}: {source.name}_run returned {_signed(status)} for input {index}, expected 0")
    if done.returncode != 0 or found["end"] != [(count,)] or len(found["run"]) != count:
        if "Lockup" in done.stderr:
            known = ", ".join(f"{m.name} {m.address:#x}" for m in firmware.target.memories)
            raise TargetError(f"{where}: the core locked up in {EMULATOR}, as it does where code, stack or variables lie at "
                              f"addresses that the board {firmware.board.machine} has no memory at: check memories[].address "
                              f"of the target ({known}){os.linesep}{done.stderr.strip()[:200]}")
        raise TargetError(f"{where}: {EMULATOR} ended with code {done.returncode} after {len(found['run'])} of {count} "
                          f"inferences: {done.stderr.strip()[:400] or 'no message'}{os.linesep}{text[-400:]}")
    expected = (1, source.input_size, source.output_size, source.arena_bytes, source.dtype.itemsize)
    if found["board"][0][:5] != expected:
        raise TargetError(f"{where}: the firmware was built from another header: {found['board'][0][:5]}, "
                          f"expected {expected}; build it again")
    return found
