// Formulas are text between \( and \), or \[ and \]; without a network they stay so.
document$.subscribe(({ body }) => {
  if (typeof renderMathInElement === "function")
    renderMathInElement(body, {
      delimiters: [
        { left: "\\(", right: "\\)", display: false },
        { left: "\\[", right: "\\]", display: true },
      ],
    });
});
