# The main job on the embedded dataset: tailor, predict with the three methods that learn nothing, score, look.
set -eu
out="${1:-demo-run}"

oshp-tailor demo --fold 1 --out "$out"
for method in background class-prior copy-support; do
  oshp-predict "$method" --manifest "$out/demo_fold1.json" -o "$out/$method"
done
oshp-score "$out/copy-support" --manifest "$out/demo_fold1.json" --out "$out/result" --sheet "$out/sheet.png" \
  --floor "$out/background" --floor "$out/class-prior" --report "$out/report.html"
oshp-score "$out/class-prior" "$out/copy-support" --manifest "$out/demo_fold1.json" | tail -n 60

echo "Now open $out/report.html in a browser; $out/sheet.png and $out/result/result.json lie beside it"
